"""The messages between a front and the explanation desk lose nothing, whatever the client sent."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.messages.explanations import ExplainAnswer, ExplainRequest
from service.messages.frames import pack, read_async

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REQUESTS = st.builds(
    ExplainRequest,
    question=st.fixed_dictionaries(
        {"method": st.none() | TEXT, "target": st.none() | TEXT, "steps": st.none() | st.integers(-(2**53), 2**53),
         "top_k": st.none() | st.integers(-(2**53), 2**53)}
    ),
    ids=st.lists(TEXT, min_size=1, max_size=4),
    x=arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)),
    picture=st.booleans(),
    request_id=TEXT,
)  # fmt: skip
PLACES = st.lists(TEXT | st.integers(0, 2**53), max_size=3).map(tuple)
ANSWERS = st.builds(
    ExplainAnswer,
    status=st.sampled_from(["ok", "unfit", "timeout", "fault", "replaced", "waiting", "unknown"]),
    body=st.binary(max_size=50),
    picture=st.booleans(),
    faults=st.lists(st.tuples(PLACES, TEXT), max_size=3),
)


def over_a_socket(head: object, body: bytes) -> tuple[dict[str, object], bytes]:
    """Write a frame and read it again."""

    async def crossing() -> tuple[dict[str, object], bytes]:
        stream = asyncio.StreamReader()
        stream.feed_data(pack(head, body))  # type: ignore[arg-type]
        return await read_async(stream)

    return asyncio.run(crossing())


def same(found: ExplainRequest, request: ExplainRequest) -> bool:
    plain = (found.question, list(found.ids), found.picture, found.request_id, found.x.shape, found.x.tobytes())
    return plain == (
        request.question, list(request.ids), request.picture, request.request_id, request.x.shape, request.x.tobytes(),
    )  # fmt: skip


@given(request=REQUESTS)
def test_a_request_crosses_as_it_is(request: ExplainRequest) -> None:
    """A request is the same after it crossed a socket, and after it was kept as one string of bytes."""
    assert same(ExplainRequest.of(*over_a_socket(request.head(), request.x.tobytes())), request)
    assert same(ExplainRequest.unpack(request.pack()), request)


@given(answer=ANSWERS)
def test_an_answer_crosses_as_it_is(answer: ExplainAnswer) -> None:
    """An answer is the same after it crossed a socket, with every place and sentence."""
    found = ExplainAnswer.of(*over_a_socket(*answer.frame()))
    plain = (found.status, found.body, found.picture, list(found.faults))
    assert plain == (answer.status, answer.body, answer.picture, list(answer.faults))


def test_a_request_of_an_earlier_version_is_read() -> None:
    """A job that an earlier version kept in the store can still be answered."""
    rows = np.array([[1.0, 2.0]], dtype=np.float32)
    line = (
        b'{"question":{"method":"shapley","target":null,"steps":null,"top_k":2},"ids":["mine"],"picture":false,'
        b'"request_id":"r","shape":[1,2]}'
    )
    found = ExplainRequest.unpack(line + b"\n" + rows.tobytes())
    assert (found.question["method"], found.ids, found.picture, found.request_id) == ("shapley", ["mine"], False, "r")
    assert found.x.tolist() == [[1.0, 2.0]]


def test_rows_of_another_shape_are_refused() -> None:
    """Bytes that are not of the named shape are an error, and never other rows."""
    request = ExplainRequest({}, ["a"], np.zeros((1, 3), np.float32), picture=False, request_id="r")
    with pytest.raises(ValueError, match="cannot reshape"):
        ExplainRequest.of(request.head(), bytes(8))
