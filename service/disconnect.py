"""Whether a client that sends no more still waits for its answer."""

import asyncio
import select
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["ClosedOrHalfClosed", "hung_up"]

PREFIX = b"HTTP/1.1 "
"""How every answer begins, whatever it turns out to be."""
FIRST_SECONDS, MOST_SECONDS = 0.05, 1.0


class ClosedOrHalfClosed:
    """Tells a client that has left from one that only closed its sending side, while its answer is being made.

    Both look the same: the end of the stream arrives, and nothing else. What tells them apart is how their kernel
    takes data: a socket that nobody has open any more answers with a reset. So the answer's first bytes, which are
    the same for every answer, are sent ahead one at a time. A client that still reads cannot tell them from any other
    cut between two segments.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle, left: Callable[[], None]) -> None:
        """Watch the client of an answer that has not begun, and call ``left`` once the client is known to be gone."""
        self._transport, self._cycle, self._left = transport, cycle, left
        self._ahead = SentAhead(transport)
        self._wait = FIRST_SECONDS
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._wait, self._ask)

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _ask(self) -> None:
        if self._transport.is_closing() or self._cycle.response_started:
            return  # the answer itself meets the reset, if there is one
        if hung_up(self._transport.get_extra_info("socket")):
            self._left()
            return
        self._cycle.transport = self._ahead
        self._ahead.send_one_byte()
        self._timer = self._loop.call_later(self._wait, self._ask)
        self._wait = min(2 * self._wait, MOST_SECONDS)


class SentAhead(asyncio.Transport):
    """The transport of an answer whose first bytes have been sent already: they are left out when it is written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport, self._sent = transport, 0

    def send_one_byte(self) -> None:
        """Send the next byte of what every answer begins with, if there is one left."""
        if self._sent < len(PREFIX):
            self._transport.write(PREFIX[self._sent : self._sent + 1])
            self._sent += 1

    def write(self, data: Any) -> None:  # noqa: ANN401 - any bytes
        """Write a part of the answer; the first part is longer than what was sent ahead."""
        self._transport.write(data[self._sent :])
        self._sent = 0

    def is_closing(self) -> bool:
        """Tell whether the connection is being closed."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self._transport.close()


def hung_up(connection: Any) -> bool:  # noqa: ANN401 - a socket, or what an event loop shows of one
    """Tell whether a connection was reset; a peer that closed its sending side alone has not hung up."""
    poller = select.poll()
    poller.register(connection.fileno(), 0)  # hang-ups and errors are told without being asked for
    return bool(poller.poll(0))
