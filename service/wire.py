"""What uvicorn leaves open between a connection and a request: bounds, framing, and clients that leave."""

import asyncio
import fcntl
import termios
import uuid
from array import array
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.disconnect import ClosedOrHalfClosed
from service.framing import Body, body_of
from service.http import Message, Receive, Send
from service.protocols.problem import Problem
from service.turns import TURNS

__all__ = ["StrictProtocol", "use_strict_protocol"]

MAX_HEADER_BYTES = 32768
HEADER_SECONDS = 10.0
END_OF_HEAD = b"\r\n\r\n"
MAX_WAITING = 16
"""How many requests a client may send ahead before no more of them are read."""
KEEP_ALIVE_SECONDS = "keep_alive_seconds"
CONNECTIONS = "connections"
"""What the application may put into the state of its lifespan: how long, and a set to keep the connections in."""


class StrictProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounded heads and bodies, one reading of how a body is framed, and clients that leave.

    httptools parses heads alone: it stops for good at a head that offers to upgrade, and mixes trailers with headers.
    A strict head ends at its first empty line, and the body is cut out here. Offers to upgrade are ignored, trailers
    are dropped. A client that leaves cancels the task that answers it, as gRPC's server does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._application, self.app = self.app, self._serve
        self.timeout_keep_alive = self.app_state.get(KEEP_ALIVE_SECONDS, self.timeout_keep_alive)
        self._all: set[StrictProtocol] = self.app_state.get(CONNECTIONS, set())
        self._in_head = False
        self._head_bytes = 0
        self._tail = b""
        """The last bytes of an unfinished head: its end may be cut between two segments."""
        self._body: Body | None = None
        """The body that is being read, or that the head just parsed announces."""
        self._head_is_whole = False
        self._held = b""
        """Requests sent ahead that are not parsed yet."""
        self._deaf = False
        """Whether nothing more is read: something was refused, or the client sends no more."""
        self._spoilt: Problem | None = None
        self._last_words: bytes | None = None
        self._running: RequestResponseCycle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ended = False
        self._watch: ClosedOrHalfClosed | None = None
        self._timer: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request's head."""
        super().connection_made(transport)
        self._all.add(self)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks, and cancel what is being answered: nobody waits for it."""
        self._all.discard(self)
        self._stop_timer()
        self._stop_watching()
        if self._answering:
            assert self._running is not None  # noqa: S101 - it is what is being answered
            self._running.disconnected = True
            self._running.message_event.set()
            self.loop.call_soon(self._cancel)  # its task may not have begun yet: it is to be counted
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # which uvicorn leaves running after a reset

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        TURNS.give_way()
        self._unset_keepalive_if_required()
        self._read(self._held + data if self._held else data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what was asked in full, if the client still waits for it; otherwise close."""
        self._deaf = True
        self._stop_timer()
        if self._body is not None and self.pipeline:
            self.pipeline.popleft()  # the last request, which will never be whole
            self._body = None
        if self._body is not None or not self._answering or self.scheme == "https":  # TLS is never half-closed
            return False
        if not self._ended:
            self._ended = True
            last = self.pipeline[0][0] if self.pipeline else self._running
            assert last is not None  # noqa: S101 - something is being answered
            last.keep_alive = self._last_words is not None
            self._watch_client()
        return True

    def shutdown(self) -> None:
        """Close a connection without a request; one whose request has arrived, and was not read yet, after its answer.

        Otherwise it would be reset, and a client that keeps connections would not know whether it may ask again.
        """
        if self._in_head or _unread(self.transport):
            if self._timer is None:
                self._start_timer()
        else:
            super().shutdown()

    # What is read

    def _read(self, data: bytes) -> None:
        start, self._held = 0, b""
        try:
            while start < len(data) and not self._deaf and not self.transport.is_closing():
                if self._body is not None:
                    content, start = self._body.take(data, start)
                    if content:
                        self.on_body(content)
                    if self._body.whole:
                        self._finish()
                elif len(self.pipeline) < MAX_WAITING:
                    start = self._read_head(data, start)
                else:
                    self._held, start = data[start:], len(data)
        except Problem as problem:
            self._refuse(problem)
        except httptools.HttpParserError as fault:
            refused = fault.__context__ if isinstance(fault.__context__, Problem) else None
            self._refuse(refused or Problem(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received."))
        if self._held:
            self.flow.pause_reading()
        elif self.pipeline and self._body is None:
            self.flow.resume_reading()  # uvicorn pauses, and would not hear of a client that leaves

    def _read_head(self, data: bytes, start: int) -> int:
        """Parse a head as far as it has arrived; the place where the rest begins."""
        if not self._in_head:
            self._in_head, self._head_bytes, self._tail = True, 0, b""
        stop = _end_of_head(self._tail, data, start)
        ended = stop is not None
        stop = len(data) if stop is None else stop
        self._head_bytes += stop - start
        if self._head_bytes > MAX_HEADER_BYTES:
            detail = f"a head may have {MAX_HEADER_BYTES} bytes"
            raise Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        head = data[start:stop]
        self._tail = b"" if ended else (self._tail + head)[-len(END_OF_HEAD) + 1 :]
        with suppress(httptools.HttpParserUpgrade):  # an offer, which is ignored
            self.parser.feed_data(head)
        if self._timer is None and not self._head_is_whole:
            self._start_timer()
        elif self._head_is_whole:
            self._head_is_whole = self._in_head = False
            if self._body is None:
                self._finish()
            else:
                self.parser = httptools.HttpRequestParser(self)  # the other one waits for a body
        return stop

    def _finish(self) -> None:
        """End a request, and go on reading, so that a client that leaves is noticed while it is being answered."""
        self._body = None
        super().on_message_complete()
        self._deaf = not self.cycle.keep_alive  # no request comes after the last one, whatever else is sent
        if not self.pipeline:
            self.flow.resume_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header without the spaces around it, which are no part of it."""
        name, value = name.lower(), value.strip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Stop the clock: the body's is the request's deadline.

        Raises:
            Problem: this is no request, or one that is read in different ways.
        """
        self._stop_timer()
        version = self.parser.get_http_version()
        body = body_of(self.headers, version)
        if version == "1.0":
            self.expect_100_continue = False  # it has no interim answers
        if self.parser.get_method() == b"CONNECT":
            allowed = {"Allow": "GET, HEAD, POST"}
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "this server is no proxy", headers=allowed)
        super().on_headers_complete()
        self._head_is_whole, self._body = True, body

    def on_message_complete(self) -> None:
        """Nothing: the parser sees no bodies, and so does not know."""

    def _should_upgrade(self) -> bool:
        """Never: there is nothing to talk about in another protocol."""
        return False

    # What is answered

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - an ASGI application
        self._running = cycle
        super()._start_asgi_task(cycle, app)
        if self._ended:
            self._watch_client()

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - uvicorn's scope
        """Run the application; what its own body did wrong is raised to it where it reads, for it to answer."""
        cycle, self._task = self._running, asyncio.current_task()
        assert cycle is not None  # noqa: S101 - this is its task

        async def hear() -> Message:
            message = await receive()
            if self._spoilt is not None and cycle is self.cycle:
                raise self._spoilt
            return message

        try:
            await self._application(scope, hear, send)
        except asyncio.CancelledError:
            if not cycle.disconnected:  # the server's end, and not the client's
                raise

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def on_response_complete(self) -> None:
        """Start on the next request; after the last one of a client that sends no more, close."""
        self._stop_watching()
        super().on_response_complete()
        if self._held:
            self._read(self._held)
        if self._answering or self.transport.is_closing():
            return
        if self._last_words is not None:
            self.transport.write(self._last_words)
            self.transport.close()
        elif self._ended:
            self.transport.close()

    def _watch_client(self) -> None:
        if self._running is not None:
            self._watch = ClosedOrHalfClosed(self.transport, self._running, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    # What is refused

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self._refuse_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse_slow(self) -> None:
        detail = f"the head of a request must arrive in {HEADER_SECONDS:g} seconds"
        self._refuse(Problem(HTTPStatus.REQUEST_TIMEOUT, detail))

    def _refuse(self, problem: Problem) -> None:
        """Read nothing more of this client, and answer it with a problem once its earlier requests are answered."""
        if self._deaf or self.transport.is_closing():
            return
        self._deaf = True
        self._stop_timer()
        if self._body is not None:  # its head is with the application already, which answers and counts it
            self._body, self._spoilt = None, problem
            self.cycle.message_event.set()
            return
        self._last_words = _written(problem)
        if not self._answering:
            self.transport.write(self._last_words)
            self.transport.close()


def _end_of_head(tail: bytes, data: bytes, start: int) -> int | None:
    """Find the place in ``data`` behind the end of a head, whose begin may be in the ``tail`` of the segment before."""
    if tail:
        end = (tail + data[start : start + len(END_OF_HEAD) - 1]).find(END_OF_HEAD)
        if end >= 0:
            return start + end - len(tail) + len(END_OF_HEAD)
    end = data.find(END_OF_HEAD, start)
    return None if end < 0 else end + len(END_OF_HEAD)


def _written(problem: Problem) -> bytes:
    """Write a problem as the last answer of a connection."""
    request_id = uuid.uuid4().hex
    body = problem.body(request_id)
    headers = {
        "content-type": "application/problem+json",
        "content-length": str(len(body)),
        "x-request-id": request_id,
        "connection": "close",
        **problem.headers,
    }
    lines = [f"HTTP/1.1 {int(problem.status)} {problem.status.phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _unread(transport: asyncio.Transport) -> bool:
    """Tell whether bytes have arrived that the event loop has not come to."""
    connection = transport.get_extra_info("socket")
    count = array("i", [0])
    try:
        fcntl.ioctl(connection.fileno(), termios.FIONREAD, count)
    except (OSError, ValueError):  # it is closed already; uvicorn asks in a loop over all connections, at the end
        return False
    return count[0] > 0


def use_strict_protocol() -> None:
    """Make uvicorn, which BentoML starts without asking, use this protocol."""
    auto.AutoHTTPProtocol = StrictProtocol
