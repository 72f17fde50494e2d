"""The direct way: a prediction request that has arrived whole is answered without ASGI.

ASGI hands a request to its application in messages, so that bodies may be endless and answers may come in parts. A
prediction needs none of that, and the messages cost a fifth of its processor time in the front. Every other request
goes the general way, and both ways lead to :meth:`service.front.dispatch.Limits.answer`.
"""

import asyncio
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.front.dispatch import Limits
from service.front.http import Head, Reply, Route
from service.front.one_write import complete, written
from service.front.turns import Turns

__all__ = ["Direct", "DirectCycle"]

KNOWN_FIELDS = 256
METHOD = "POST"


class DirectCycle(RequestResponseCycle):
    """A request that has arrived whole, and its answer. uvicorn's protocol asks it how far the answer is.

    What uvicorn's class needs for messages has one value for all direct requests.
    """

    scope: Any = MappingProxyType({"method": METHOD})
    access_log = False
    chunked_encoding = None
    expected_content_length = 0

    def __init__(self, route: Route, head: Head, protocol: HttpToolsProtocol) -> None:
        # Not uvicorn's constructor, because most of what it prepares is for messages.
        self.route, self.head, self.content = route, head, b""
        self.transport, self.flow, self.logger = protocol.transport, protocol.flow, protocol.logger
        self.default_headers = protocol.server_state.default_headers
        self.keep_alive, self.on_response = protocol.parser.should_keep_alive(), protocol.on_response_complete
        self.message_event = asyncio.Event()
        self.disconnected = self.response_started = self.response_complete = False
        self.waiting_for_100_continue = self.more_body = False

    async def write(self, reply: Reply, request_id: str, close: bool) -> None:
        """Write the whole answer in one system call, as soon as the client has read the answer before."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self.disconnected:
            self.write_now(reply, request_id, close=close)

    def write_now(self, reply: Reply, request_id: str, *, close: bool) -> None:
        """Write the whole answer in one system call."""
        lines = b"".join([_line(name, value) for name, value in reply.headers.items()])
        if close or not self.keep_alive:
            lines += b"connection: close\r\n"
        self.transport.write(
            b"%b%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b"
            % (
                STATUS_LINE[reply.status],
                written(self.default_headers),
                reply.content_type.encode(),
                len(reply.body),
                request_id.encode(),
                lines,
                reply.body,
            )
        )
        complete(self, close=close)


@lru_cache(KNOWN_FIELDS)
def _line(name: str, value: str) -> bytes:
    """Write one field of an answer's head.

    Raises:
        RuntimeError: the field must not be sent, as uvicorn says it.
    """
    line = name.lower().encode(), value.encode()
    if HEADER_RE.search(line[0]) or HEADER_VALUE_RE.search(line[1]):
        raise RuntimeError("Invalid HTTP header name or value.")
    return b"%b: %b\r\n" % line


class Direct:
    """Recognises the requests of the direct way."""

    def __init__(self, limits: Limits) -> None:
        """Take the requests whose route has ``direct`` set."""
        self.limits = limits
        self.turns = Turns(limits.sees_waiting)
        self._routes = {path.encode(): route for path, route in limits.routes.items() if route.direct}

    def route(self, method: bytes, url: bytes) -> Route | None:
        """Return the route of a direct request; None if the request goes the general way."""
        return self._routes.get(url) if method == METHOD.encode() else None

    def turn_away(self, cycle: DirectCycle) -> bool:
        """Refuse a request if its caller is at the limit; return whether the request was refused.

        Such a request costs no task, so that refusals leave the processor to the requests that were taken in.
        """
        if cycle.flow.write_paused:
            return False
        refused = self.limits.turn_away(cycle.route, cycle.head)
        if refused is None:
            return False
        reply, request_id = refused
        cycle.write_now(reply, request_id, close=self.limits.closing())
        return True
