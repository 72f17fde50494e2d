"""Detects whether a client that has stopped sending still waits for its answer."""

import asyncio
import select
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["ClosedOrHalfClosed", "hung_up"]

PREFIX = b"HTTP/1.1 "
"""The first bytes of every answer, whatever its status."""
FIRST_SECONDS, MOST_SECONDS = 0.05, 1.0


class ClosedOrHalfClosed:
    """Finds out whether a client has left or has only closed its sending side, while its answer is being made.

    The server sees the same in both cases: the end of the stream. The cases differ in how the client's kernel reacts
    to data: if no process has the socket open any more, the kernel answers with a reset. So the first bytes of the
    answer, which are the same for every answer, are sent ahead, one byte at a time. A client that still reads sees
    only that the answer arrives in more segments.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle, left: Callable[[], None]) -> None:
        """Watch the client of an answer that has not begun; call ``left`` once the client is known to have left."""
        self._transport, self._cycle, self._left = transport, cycle, left
        self._ahead = SentAhead(transport)
        self._wait = FIRST_SECONDS
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._wait, self._ask)

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _ask(self) -> None:
        if self._transport.is_closing() or self._cycle.response_started:
            return  # if the client has left, writing the answer meets the reset
        if hung_up(self._transport.get_extra_info("socket")):
            self._left()
            return
        self._cycle.transport = self._ahead
        self._ahead.send_one_byte()
        self._timer = self._loop.call_later(self._wait, self._ask)
        self._wait = min(2 * self._wait, MOST_SECONDS)


class SentAhead(asyncio.Transport):
    """A transport that has already sent the first bytes of an answer, and skips them when the answer is written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport, self._sent = transport, 0

    def send_one_byte(self) -> None:
        """Send the next byte of :data:`PREFIX`, if not all of its bytes are sent."""
        if self._sent < len(PREFIX):
            self._transport.write(PREFIX[self._sent : self._sent + 1])
            self._sent += 1

    def write(self, data: Any) -> None:  # noqa: ANN401 - any bytes
        """Write a part of the answer. The first part is longer than the bytes that were sent ahead."""
        self._transport.write(data[self._sent :])
        self._sent = 0

    def is_closing(self) -> bool:
        """Return whether the connection is being closed."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self._transport.close()


def hung_up(connection: Any) -> bool:  # noqa: ANN401 - a socket, or asyncio's view of a socket
    """Return whether a connection was reset. A peer that closed only its sending side has not hung up."""
    poller = select.poll()
    poller.register(connection.fileno(), 0)  # poll always reports hang-ups and errors, so no event is asked for
    return bool(poller.poll(0))
