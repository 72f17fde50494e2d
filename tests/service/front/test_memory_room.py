"""How much memory requests may hold together."""

import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.front.memory_room import BODIES, BODIES_AT_ONCE, LARGEST_BODY, RECEIVING_PLACES, Room, furnish, tree_bytes
from service.messages.refused import Refused

MEGABYTE = 1 << 20


def test_requests_share_the_room() -> None:
    """A request that does not fit beside the others is refused, and fits when another has given its bytes back."""
    room = Room(100, free_below=0)
    first = room.grow(0, 60)
    with pytest.raises(Refused) as refused:
        room.grow(0, 50)
    assert refused.value.reason == "memory"
    second = room.grow(0, 40)
    assert room.lent == 100
    with pytest.raises(Refused):
        room.grow(second, 41)
    assert room.grow(second, 30) == 30
    assert room.grow(first, 0) == 0
    assert room.lent == 30


def test_a_request_that_is_alone_gets_its_bytes() -> None:
    """Nothing that is within its own limit is refused for ever."""
    room = Room(100, free_below=0)
    with room.held(500), pytest.raises(Refused), room.held(1):
        raise AssertionError
    with room.held(500):
        assert room.lent == 500
    assert room.lent == 0


def test_small_requests_are_not_counted() -> None:
    """A small body passes while large bodies fill the room."""
    room = Room(100, free_below=10)
    with room.held(100), room.held(10):
        assert room.lent == 100


def test_bytes_are_given_back_after_an_error() -> None:
    """A block that raises holds nothing afterwards."""
    room = Room(100, free_below=0)
    with pytest.raises(ZeroDivisionError), room.held(50):
        raise ZeroDivisionError
    assert room.lent == 0


@pytest.mark.parametrize(
    "unit",
    [
        b"[],",
        b"{},",
        b"[[]],",
        b'{"":{}},',
        b'{"a":1,"b":2},',
        b"1.5,",
        b"12345,",
        b'"a",',
        b'"\xc3\xa9",',
        b"null,",
        b"[1.5],",
    ],
)
def test_the_bound_holds_for_bombs(unit: bytes) -> None:
    """The memory of a parsed text is below its bound, for texts that take the most memory for their bytes."""
    text = b"[" + (unit * (MEGABYTE // len(unit)))[:-1] + b"]"
    tracemalloc.start()
    try:
        document = orjson.loads(text)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert document
    assert taken <= tree_bytes(text)


@given(st.binary(max_size=200))
def test_small_texts_have_no_bound(text: bytes) -> None:
    """A small text is not counted at all."""
    assert tree_bytes(text) == 0


def test_http_and_grpc_share_the_room_for_bodies() -> None:
    """What gRPC may receive at a time is taken from the room for bodies, if the server has gRPC."""
    try:
        furnish(1000, grpc=False)
        assert BODIES.size == BODIES_AT_ONCE * 1000
        furnish(1000, grpc=True)
        assert BODIES.size + RECEIVING_PLACES * 1000 == BODIES_AT_ONCE * 1000
    finally:
        furnish(LARGEST_BODY, grpc=False)
