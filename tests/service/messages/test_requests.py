"""Requests and replies on a stream: the same records are read, whatever pieces arrive."""

from hypothesis import given
from hypothesis import strategies as st

from service.messages.requests import Records, Reply, Request, Withdrawal, replies, requests

NUMBERS = st.integers(0, 2**32 - 1)
SECONDS = st.floats(0, 1e9)
ASKED = st.builds(
    lambda number, slots, deadline, submitted, names, causes, stages: Request(
        number,
        tuple(slots),
        [f"{name}-{place}" for place, name in enumerate(names[: len(slots)])] or ["x"],
        deadline,
        submitted,
        {"sex": [None] * len(slots)} if causes else {},
        causes=causes,
        stages=stages,
    ),
    NUMBERS,
    st.lists(NUMBERS, min_size=1, max_size=5),
    SECONDS,
    SECONDS,
    st.lists(st.text(max_size=5), min_size=5, max_size=5),
    st.booleans(),
    st.booleans(),
)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut bytes into pieces of these sizes, and the rest."""
    cut, start = [], 0
    for size in sizes:
        cut.append(data[start : start + size])
        start += size
    return [*cut, data[start:]]


@given(
    records=st.lists(ASKED | st.builds(Withdrawal, NUMBERS, NUMBERS), max_size=6),
    sizes=st.lists(st.integers(0, 60), max_size=30),
)
def test_requests_survive_any_cut(records: list[Request | Withdrawal], sizes: list[int]) -> None:
    """A stream cuts records anywhere; each is read once, in order, when the last of its bytes is there."""
    stream, found = Records(), []
    for piece in pieces(b"".join(record.pack() for record in records), sizes):
        found += requests(stream, piece)
    assert found == records


@given(
    records=st.lists(st.builds(Reply, NUMBERS, st.integers(0, 2), st.binary(max_size=20)), max_size=6),
    sizes=st.lists(st.integers(0, 40), max_size=30),
)
def test_replies_survive_any_cut(records: list[Reply], sizes: list[int]) -> None:
    """The same holds for replies."""
    stream, found = Records(), []
    for piece in pieces(b"".join(record.pack() for record in records), sizes):
        found += replies(stream, piece)
    assert found == records
