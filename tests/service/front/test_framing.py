"""The framing of bodies: the body is read the same, however it is cut into segments."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.front.framing import ChunkedBody, SizedBody, body_of
from service.front.protocols.problem import Problem

NEXT = b"GET / HTTP/1.1\r\n\r\n"
CHUNKED = (b"transfer-encoding", b"chunked")


def read(data: bytes, *cuts: int) -> tuple[bytes, bytes]:
    """Read a chunked body that arrives in segments: its content, and what comes after it."""
    body, content = ChunkedBody(), b""
    places = [0, *sorted(cuts), len(data)]
    for start, stop in itertools.pairwise(places):
        segment = data[start:stop]
        part, end = body.take(segment, 0)
        content += part
        if body.whole:
            return content, segment[end:] + data[stop:]
    raise AssertionError("the body has not ended")


def chunked(parts: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """Frame a body."""
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts if part)
    return chunks + b"0" + extension + b"\r\n" + trailers + b"\r\n"


@given(
    st.lists(st.binary(max_size=30), max_size=5),
    st.sampled_from([b"", b";a", b';a="b c"', b";"]),
    st.sampled_from([b"", b"X: y\r\n", b"Content-Length: 9\r\nX-Request-ID:evil\r\n", b"X:\r\n"]),
    st.data(),
)
def test_a_chunked_body_is_its_chunks(
    parts: list[bytes], extension: bytes, trailers: bytes, data: st.DataObject
) -> None:
    """Content is what the chunks hold, the rest begins after the trailers, and no cut changes either."""
    whole = chunked(parts, extension, trailers) + NEXT
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=4))
    assert read(whole, *cuts) == (b"".join(parts), NEXT)
    assert read(whole, *range(len(whole))) == (b"".join(parts), NEXT)


@pytest.mark.parametrize(
    "body",
    [
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b" 2\r\n{}\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b"2_0\r\n{}\r\n0\r\n\r\n",
        b"\r\n{}\r\n0\r\n\r\n",
        b";a\r\n\r\n",
        b"2\n{}\n0\n\n",
        b"2\r{}\r0\r\r",
        b"2\r\n{}0\r\n\r\n",
        b"2\r\n{}\n0\r\n\r\n",
        b"2\r\n{} \r\n0\r\n\r\n",
        b"1\r\n{}\r\n0\r\n\r\n",
        b"2;a\nb\r\n{}\r\n0\r\n\r\n",
        b"2;a\x00b\r\n{}\r\n0\r\n\r\n",
        b"10000000000000002\r\n{}\r\n0\r\n\r\n",
        b"\xb2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX : y\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX: y\r\n z\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX: y\nZ: a\r\n\r\n",
    ],
)
def test_what_is_no_chunk_is_refused(body: bytes) -> None:
    """Signs, prefixes, spaces, bare line ends and sizes that overflow are refused, however they are cut."""
    for cuts in ((), range(len(body))):
        with pytest.raises(Problem) as refused:
            read(body, *cuts)
        assert refused.value.status == 400


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"1\r\n \r\n"),
        (b"", b"7\r\n       \r\n"),
        (b"", b"1;" + b"a" * 5000 + b"\r\n \r\n"),
        (b"2;", b"a" * 1000),
        (b"2\r\n{}\r\n0\r\n", b"X: y\r\n"),
        (b"2\r\n{}\r\n0\r\nX: ", b"a" * 1000),
    ],
    ids=["bytes", "small chunks", "extensions", "an extension", "trailers", "a trailer"],
)
def test_framing_that_outweighs_its_content_is_refused(begin: bytes, more: bytes) -> None:
    """One-byte chunks, extensions and endless trailers are refused before they are 200 kB."""
    with pytest.raises(Problem) as refused:
        read(begin + more * (200_000 // len(more)), *range(len(begin), 200_000, len(more)))
    assert refused.value.status == 413


def test_large_bodies_in_usual_chunks_are_taken() -> None:
    """A body of 16 MB in chunks of 64 bytes is within the bounds, as is a small one in the smallest of chunks."""
    assert len(read(chunked([b"x" * 64] * 262_144))[0]) == 16 << 20
    assert len(read(chunked([b"x"] * 8000))[0]) == 8000


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([(b"content-length", b"2"), (b"content-length", b"2")], "1.1"),
        ([(b"content-length", b"2"), CHUNKED], "1.1"),
        ([CHUNKED, CHUNKED], "1.1"),
        ([(b"transfer-encoding", b"gzip, chunked")], "1.1"),
        ([(b"transfer-encoding", b"identity")], "1.1"),
        ([(b"transfer-encoding", b"chunked, chunked")], "1.1"),
        ([CHUNKED], "1.0"),
        ([], "0.9"),
        ([], "2.0"),
    ],
)
def test_two_readings_are_none(headers: list[tuple[bytes, bytes]], version: str) -> None:
    """A request whose end a proxy may see elsewhere is refused."""
    with pytest.raises(Problem) as refused:
        body_of(headers, version)
    assert refused.value.status == 400


def test_a_body_is_framed_by_its_headers() -> None:
    """A length or chunks in either case make a body; a length of 0, and no framing, make none."""
    assert isinstance(body_of([(b"host", b"x"), (b"content-length", b"2")], "1.0"), SizedBody)
    assert isinstance(body_of([(b"transfer-encoding", b"Chunked")], "1.1"), ChunkedBody)
    assert body_of([(b"content-length", b"00")], "1.1") is None
    assert body_of([(b"host", b"x")], "1.1") is None
