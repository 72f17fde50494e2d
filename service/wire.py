"""What uvicorn leaves open before a request reaches us: heads without a bound in size or time, errors in plain text."""

import asyncio
import fcntl
import termios
import uuid
from array import array
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.protocols.problem import Problem
from service.turns import TURNS

__all__ = ["BoundedHeaders", "bound_headers"]

MAX_HEADER_BYTES = 32768
HEADER_SECONDS = 10.0


class BoundedHeaders(HttpToolsProtocol):
    """uvicorn's protocol, with request heads of bounded size and time, and its refusals as problem documents."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._head_bytes = self._unfinished = 0
        self._in_head = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request's head."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives inside a head too: the parser tells of a header only once it is whole."""
        TURNS.give_way()
        inside = self._in_head
        super().data_received(data)
        if inside and self._in_head:
            self._unfinished += len(data)
            if self._unfinished > MAX_HEADER_BYTES:
                self._refuse_size()

    def shutdown(self) -> None:
        """Close a connection without a request; one whose request has arrived, and was not read yet, after its answer.

        Otherwise it would be reset, and a client that keeps connections would not know whether it may ask again.
        """
        if self._in_head or _unread(self.transport):
            if self._timer is None:
                self._start_timer()
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        """Count a new head; on a connection kept alive its clock starts now."""
        super().on_message_begin()
        self._head_bytes = self._unfinished = 0
        self._in_head = True
        if self._timer is None:
            self._start_timer()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        if self._counts(url):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        if self._counts(name, value):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the clock: the body's is the request's deadline."""
        self._stop_timer()
        self._in_head = False
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Leave out the body of a request that was refused."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Leave out the end of a request that was refused."""
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that these bytes are no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _counts(self, *parts: bytes) -> bool:
        self._head_bytes += sum(map(len, parts))
        if self._head_bytes > MAX_HEADER_BYTES:
            self._refuse_size()
        return self._head_bytes <= MAX_HEADER_BYTES

    def _refuse_size(self) -> None:
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head may have {MAX_HEADER_BYTES} bytes")

    def _start_timer(self) -> None:
        too_slow = f"the head of a request must arrive in {HEADER_SECONDS:g} seconds"
        self._timer = self.loop.call_later(HEADER_SECONDS, self._refuse, HTTPStatus.REQUEST_TIMEOUT, too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        if self.transport.is_closing():
            return
        request_id = uuid.uuid4().hex
        body = Problem(status, detail).body(request_id)
        head = (
            f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _unread(transport: asyncio.Transport) -> bool:
    """Tell whether bytes have arrived that the event loop has not come to."""
    connection = transport.get_extra_info("socket")
    count = array("i", [0])
    try:
        fcntl.ioctl(connection.fileno(), termios.FIONREAD, count)
    except (OSError, ValueError):  # it is closed already; uvicorn asks in a loop over all connections, at the end
        return False
    return count[0] > 0


def bound_headers() -> None:
    """Make uvicorn, which BentoML starts without asking, use this protocol."""
    auto.AutoHTTPProtocol = BoundedHeaders
