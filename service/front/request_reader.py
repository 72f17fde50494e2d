"""Reads the requests of one HTTP/1.1 connection, with limits and strict framing, and refuses what breaks them."""

import asyncio
import uuid
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.front.answer_writer import BODY_BYTES, LINGER_BYTES, AnswerWriter
from service.front.framing import Body, body_of
from service.front.protocols.problem import Problem

__all__ = ["RequestReader"]

MAX_HEADER_BYTES = 32768
HEADER_SECONDS = 10.0
END_OF_HEAD = b"\r\n\r\n"
MAX_WAITING = 16
"""How many requests may wait behind the request that is being answered. Further requests are read later."""


class RequestReader(AnswerWriter):
    """The reading half of uvicorn's protocol, with limits on heads and strict framing of bodies.

    httptools parses only the heads. With bodies, httptools stops for good at a head that offers to upgrade, and mixes
    trailers with headers. So the head is cut at its first empty line, and the body is cut out here. Offers to upgrade
    are ignored, and trailers are dropped.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._head_bytes = 0
        self._tail = b""
        """The last bytes of an unfinished head. The end of the head may be split between two segments."""
        self._behind = 0
        """How many bytes have arrived behind the head that is being parsed."""
        self._body: Body | None = None
        """The body that is being read, or that the last parsed head announces."""
        self._head_is_whole = False
        self._unparsed = b""
        """Bytes of later requests that are not parsed yet."""
        self._body_problem: Problem | None = None
        """Why the body of the last request was refused."""
        self._final_answer: bytes | None = None
        """The answer to a refused head. It is sent after the answers to the earlier requests."""
        self._running: RequestResponseCycle | None = None
        """The request that is being answered, or that was answered last."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _is_running(self) -> bool:
        return self._running is not None and not self._running.response_complete

    @property
    def _answering(self) -> bool:
        return self._is_running or bool(self.pipeline)

    # What is read

    def _read(self, data: bytes) -> None:
        start, self._unparsed = 0, b""
        try:
            while start < len(data) and not self._stopped_reading and not self.transport.is_closing():
                if self._body is not None:
                    content, start = self._body.take(data, start)
                    if content:
                        self.on_body(content)
                    if self._body.whole:
                        self._finish()
                elif len(self.pipeline) < MAX_WAITING:
                    start = self._read_head(data, start)
                else:
                    self._unparsed, start = data[start:], len(data)
        except Problem as problem:
            self._refuse(problem)
        except httptools.HttpParserError as fault:
            refused = fault.__context__ if isinstance(fault.__context__, Problem) else None
            self._refuse(refused or Problem(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received."))
        if self._unparsed:
            self.flow.pause_reading()
        elif self.pipeline and self._body is None:
            self.flow.resume_reading()  # uvicorn pauses reading, and would not notice that the client leaves

    def _read_head(self, data: bytes, start: int) -> int:
        """Parse a head as far as it has arrived; return the index where the rest begins."""
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
        self._behind = len(data) - stop
        self._tail = b"" if ended else (self._tail + head)[-len(END_OF_HEAD) + 1 :]
        with suppress(httptools.HttpParserUpgrade):  # the client offers to upgrade: ignored
            self.parser.feed_data(head)
        if self._timer is None and not self._head_is_whole:
            self._start_timer()
        elif self._head_is_whole:
            self._head_is_whole = self._in_head = False
            if self._body is None:
                self._finish()
            else:
                self.parser = httptools.HttpRequestParser(self)  # the old parser waits for a body
        return stop

    def _finish(self) -> None:
        """End a request, and go on reading, so that the server notices if the client leaves before the answer."""
        self._body = None
        super().on_message_complete()
        self._stopped_reading = not self.cycle.keep_alive  # bytes after the last request are ignored
        if not self.pipeline:
            self.flow.resume_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header, without the spaces around its value."""
        name, value = name.lower(), value.strip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Stop the timer of the head: from here on the request's deadline holds.

        Raises:
            Problem: 400, the request can be read in two ways or names another version of HTTP; 405, CONNECT.
        """
        self._stop_timer()
        version = self.parser.get_http_version()
        body = body_of(self.headers, version)
        if version == "1.0":
            self.expect_100_continue = False  # HTTP/1.0 has no interim answers
        if self.parser.get_method() == b"CONNECT":
            allowed = {"Allow": "GET, HEAD, POST"}
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "this server is no proxy", headers=allowed)
        self._begin(body)
        self._head_is_whole, self._body = True, body

    def _begin(self, _: Body | None) -> None:
        """Begin a request whose head was read; its body follows."""
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Do nothing: the parser sees no bodies, so it cannot know where a message ends."""

    def _should_upgrade(self) -> bool:
        """Return false: this server speaks no protocol to upgrade to."""
        return False

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
        """Stop reading, and send the problem as the last answer, once the earlier requests are answered."""
        if self._stopped_reading or self.transport.is_closing():
            return
        self._stopped_reading = True
        self._stop_timer()
        if self._body is not None:  # the application has the head already: it answers and counts the request
            self._body, self._body_problem = None, problem
            self.cycle.message_event.set()
            return
        self._connections.refused(problem)
        self._final_answer = _written(problem)
        if not self._answering:
            self._send_final_answer()

    def _send_final_answer(self) -> None:
        assert self._final_answer is not None  # noqa: S101 - a head was refused
        self.transport.write(self._final_answer)
        if self._in_head:
            self._linger(LINGER_BYTES)
        else:  # the client has sent nothing
            self.transport.close()

    def _end_after_body(self) -> None:
        """Close the connection after its last answer; if the body has not ended, the client may still be sending."""
        if self._body is not None:
            self._linger(BODY_BYTES)
        elif self._body_problem is not None:
            self._linger(LINGER_BYTES)
        else:
            self.transport.close()


def _end_of_head(tail: bytes, data: bytes, start: int) -> int | None:
    """Return the index after the end of a head in ``data``; the end may begin in ``tail``, the bytes just before."""
    if tail:
        end = (tail + data[start : start + len(END_OF_HEAD) - 1]).find(END_OF_HEAD)
        if end >= 0:
            return start + end - len(tail) + len(END_OF_HEAD)
    end = data.find(END_OF_HEAD, start)
    return None if end < 0 else end + len(END_OF_HEAD)


def _written(problem: Problem) -> bytes:
    """Write a problem as the last answer of a connection: the whole HTTP response."""
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
