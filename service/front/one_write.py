"""An ASGI ``send`` that writes the head and the body of an answer in one system call."""

from functools import lru_cache

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from service.front.http import Message

__all__ = ["OneWrite", "complete", "written"]

START, BODY = "http.response.start", "http.response.body"
LENGTH, CONNECTION, CODING, CLOSE = b"content-length", b"connection", b"transfer-encoding", b"close"
KNOWN_NAMES = 256
END_OF_LINE = b"\r\n"
Headers = list[tuple[bytes, bytes]]


class OneWrite:
    """The ``send`` of one request. It holds the head of the answer back until the body arrives.

    uvicorn writes the head and the body separately: two system calls, and often two packets. If the next message is
    the whole body, both are sent in one write. uvicorn writes every other answer, since uvicorn handles the rarer
    cases: HEAD, a body in parts, no Content-Length, a client that reads slowly, and headers that must not be sent.
    """

    __slots__ = ("_cycle", "_start")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        cycle, start = self._cycle, self._start
        if start is None and message["type"] == START and not cycle.response_started:
            self._start = message
            return
        self._start = None
        if start is not None:
            if self._write(start, message):
                return
            await cycle.send(start)  # type: ignore[arg-type]
        await cycle.send(message)  # type: ignore[arg-type]

    def _write(self, start: Message, message: Message) -> bool:
        """Write a whole answer; return false if uvicorn must write the answer."""
        cycle, body = self._cycle, message.get("body", b"")
        headers: Headers = start["headers"]
        if (
            message["type"] != BODY
            or message.get("more_body")
            or cycle.disconnected
            or cycle.flow.write_paused
            or cycle.access_log
            or cycle.scope["method"] == "HEAD"
            or HEADER_VALUE_RE.search(b"".join([value for _, value in headers]))
        ):
            return False
        length, close = -1, False
        parts = [STATUS_LINE[start["status"]], written(cycle.default_headers)]
        for name, value in headers:
            if name == LENGTH:
                length = int(value)
            elif name == CONNECTION and value == CLOSE:
                close = True
            elif name in (CONNECTION, CODING) or not _sound(name):
                return False
            parts += (name, b": ", value, END_OF_LINE)
        if length != len(body):
            return False
        if not (cycle.keep_alive or close):
            parts.append(b"connection: close\r\n")
        parts += (END_OF_LINE, body)
        cycle.transport.write(b"".join(parts))
        complete(cycle, close=close)
        return True


def complete(cycle: RequestResponseCycle, *, close: bool) -> None:
    """Record that the whole answer is written; close the connection if the client or the answer says so."""
    cycle.keep_alive = cycle.keep_alive and not close
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


@lru_cache(KNOWN_NAMES)
def _sound(name: bytes) -> bool:
    """Return whether a header name may be sent unchanged."""
    return name == name.lower() and HEADER_RE.search(name) is None


class Defaults:
    """A cache of the written default headers. uvicorn makes a new list of default headers once a second."""

    made_of: Headers | None = None
    written = b""


def written(headers: Headers) -> bytes:
    """Write the default headers of every answer, each with the end of its line."""
    if headers is not Defaults.made_of:
        Defaults.written = b"".join(part for name, value in headers for part in (name, b": ", value, END_OF_LINE))
        Defaults.made_of = headers
    return Defaults.written
