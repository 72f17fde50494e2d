"""The media types and encodings that a client's headers prefer."""

import pytest

from service.front.negotiation import may_wait, wants_picture


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        (b"image/png", True),
        (b"IMAGE/PNG", True),
        (b"image/*", True),
        (b"image/png, application/json;q=0.5", True),
        (b"application/json, image/png", False),
        (b"*/*", False),
        (b"image/png;q=0", False),
        (b"image/png;q=nan", False),
        (b"image/png;q=x, */*", False),
        (b"text/html", False),
        (b"", False),
        (b"\xff;;;,,q=,=", False),
    ],
)
def test_picture_where_it_weighs_more(accept: bytes, picture: bool) -> None:
    """A picture is sent to who prefers one to JSON; whatever else Accept holds, JSON."""
    assert wants_picture({b"accept": accept}) is picture


def test_json_without_a_preference() -> None:
    """A client without a preference gets JSON, at once."""
    assert not wants_picture({})
    assert not may_wait({})


@pytest.mark.parametrize(
    ("prefer", "waits"),
    [
        (b"respond-async", True),
        (b"Respond-Async, wait=10", True),
        (b"return=minimal; foo, respond-async;x=1", True),
        (b"wait=10", False),
        (b"respond-asynchronously", False),
        (b"", False),
    ],
)
def test_answer_later(prefer: bytes, waits: bool) -> None:
    """The preference of RFC 7240 is found among others."""
    assert may_wait({b"prefer": prefer}) is waits
