"""Cuts the body of a request out of a connection's bytes; refuses framing that a proxy could read differently."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple, Protocol

from service.front.protocols.problem import Problem

__all__ = ["Body", "ChunkedBody", "SizedBody", "body_of"]

LENGTH, CODING, CHUNKED = b"content-length", b"transfer-encoding", b"chunked"
END_OF_LINE = b"\r\n"
LINE_BYTES = 8192
FRAMING_BYTES, FRAMING_SHARE = 65536, 8
"""The limit on the chunk sizes, extensions and trailers of a body: 65536 bytes, plus an eighth of the content."""


class Line(NamedTuple):
    """What a line between chunks may hold: ``whole`` matches a whole line, ``begun`` the part that has arrived."""

    whole: re.Pattern[bytes]
    begun: re.Pattern[bytes]


NAME, TEXT, HEX = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]", rb"[\t\x20-\x7e\x80-\xff]*", rb"[0-9A-Fa-f]"
SIZE = Line(
    re.compile(rb"(%s{1,15})(;%s)?" % (HEX, TEXT)), re.compile(rb"(%s{0,15}|%s{1,15};%s)\r?" % (HEX, HEX, TEXT))
)
TRAILER = Line(re.compile(rb"(%s+:%s)?" % (NAME, TEXT)), re.compile(rb"(%s*|%s+:%s)\r?" % (NAME, NAME, TEXT)))
END = Line(re.compile(rb""), re.compile(rb"\r?"))


class Body(Protocol):
    """Cuts the content of one body out of the bytes that arrive."""

    @property
    def whole(self) -> bool:
        """Whether the body has ended."""

    def take(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Take the body's bytes from ``data[start:]``; return the content, and the index where the rest begins.

        Raises:
            Problem: the bytes are not framed as a body.
        """


def body_of(headers: Sequence[tuple[bytes, bytes]], version: str) -> Body | None:
    """Find how the body of a request is framed (RFC 9112, section 6); return None if the request has no body.

    The names of ``headers`` are in lower case, and the parser has refused lengths that are no numbers. The parser
    accepts more than is safe, so three things are refused here: codings before ``chunked``, because this server does
    not decode them; chunks in HTTP/1.0, because older proxies pass the chunks on as content; other versions of HTTP.

    Raises:
        Problem: 400, the request can be read in two ways, or this server does not speak its version of HTTP.
    """
    if version not in ("1.1", "1.0"):
        raise _bad(f"this server speaks HTTP/1.1 and HTTP/1.0, and not HTTP/{version}")
    framing = [header for header in headers if header[0] in (LENGTH, CODING)]
    if not framing:
        return None
    if len(framing) > 1:
        raise _bad("a request has one Content-Length or one Transfer-Encoding")
    name, value = framing[0]
    if name == LENGTH:
        return SizedBody(int(value)) if int(value) else None
    if version == "1.0":
        raise _bad("HTTP/1.0 has no Transfer-Encoding")
    if value.lower() != CHUNKED:
        raise _bad("the one Transfer-Encoding that this server reads is chunked")
    return ChunkedBody()


class SizedBody:
    """A body whose length Content-Length states."""

    def __init__(self, size: int) -> None:
        self.size = self._left = size

    @property
    def whole(self) -> bool:
        """Whether the body has ended."""
        return not self._left

    def take(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Take the body's bytes from ``data[start:]``; return the content, and the index where the rest begins."""
        stop = min(len(data), start + self._left)
        self._left -= stop - start
        return data[start:stop], stop


class ChunkedBody:
    """A body in chunks (RFC 9112, section 7.1).

    Chunk extensions and trailers are dropped. Their bytes and the bytes of the chunk sizes are limited together.

    httptools is not used for chunks: it reports trailers as headers, and the last trailer as a header of the next
    request.
    """

    def __init__(self) -> None:
        self.whole = False
        self._expected = SIZE
        self._begun = b""
        self._left = self._framing = self._content = 0

    def take(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Take the body's bytes from ``data[start:]``; return the content, and the index where the rest begins.

        Raises:
            Problem: 400, the bytes are not chunked; 413, chunk sizes, extensions and trailers outweigh the content.
        """
        shift = 0
        if self._begun:  # the begin of a line whose rest comes in this segment
            shift = start - len(self._begun)
            data, start, self._begun = self._begun + data[start:], 0, b""
        parts: list[bytes] = []
        while start < len(data) and not self.whole:
            if self._left:
                stop = min(len(data), start + self._left)
                parts.append(data[start:stop])
                self._left -= stop - start
                self._content += stop - start
            elif (end := data.find(END_OF_LINE, start)) >= 0:
                self._read(data[start:end])
                stop = end + len(END_OF_LINE)
                self._bound(stop - start)
            else:
                stop, self._begun = len(data), data[start:]
                if len(self._begun) > LINE_BYTES:
                    raise _too_fine()
                if not self._expected.begun.fullmatch(self._begun):
                    raise _bad("this is no chunk")
            start = stop
        return b"".join(parts), start + shift

    def _read(self, line: bytes) -> None:
        found = self._expected.whole.fullmatch(line)
        if found is None:
            raise _bad("this is no chunk")
        if self._expected is SIZE:
            self._left = int(found[1], 16)
            self._expected = END if self._left else TRAILER
        elif self._expected is END:
            self._expected = SIZE
        else:
            self.whole = not line

    def _bound(self, framing: int) -> None:
        self._framing += framing
        if self._framing > FRAMING_BYTES + self._content // FRAMING_SHARE:
            raise _too_fine()


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, detail)


def _too_fine() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "chunk sizes, chunk extensions and trailers outweigh the body: send fewer and larger chunks",
    )
