"""A connection that counts: a new one may be refused, and one that waits for a request may be closed for another."""

import asyncio
import fcntl
import termios
from array import array
from typing import Any

from service.front.connections import Place
from service.front.protocols.problem import Problem, unavailable
from service.front.request_reader import RequestReader
from service.telemetry.request_record import PROBES

__all__ = ["FRESH_SECONDS", "BoundedConnection", "unread"]

FRESH_SECONDS = 0.3
"""How long a request that is on its way may take to arrive before a connection counts as waiting."""
PROBE_PATHS = frozenset(path.encode() for path in PROBES)


class BoundedConnection(RequestReader):
    """A connection with a place among the front's :class:`service.front.connections.Connections`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._place, self._descriptor = Place.ANY, -1
        self._waits_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the head of the first request; refuse the connection if too many are open."""
        super().connection_made(transport)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._place = self._connections.admit(self, self._descriptor)
        if self._place is Place.NONE:
            self._refuse(_too_many())
        else:
            self._start_timer()

    @property
    def _for_probes(self) -> bool:
        return self._place is Place.PROBES

    def _start_timer(self) -> None:
        super()._start_timer()
        self._wait()

    def _wait(self) -> None:
        """Wait for a request; from now on the connection may be closed to make room for another."""
        self._waits_since = self.loop.time()
        self._connections.waits(self)

    def _check_place(self) -> None:
        """Check that the connection may send the request whose head was read.

        Raises:
            Problem: 503, too many connections are open, and this request asks for no probe.
        """
        if self._for_probes and self.url.partition(b"?")[0] not in PROBE_PATHS:
            raise _too_many()
        self._connections.works(self)

    def is_over(self) -> bool:
        """Return whether the connection is closed or being closed."""
        return self.transport.is_closing()

    def may_end(self, *, fresh_too: bool = False) -> bool:
        """Return whether no request is under way: none was begun or answered just now, and no byte has arrived.

        If ``fresh_too``, a connection that began to wait just now may end too.
        """
        if self._lingers:
            return True
        fresh = self.loop.time() - self._waits_since < FRESH_SECONDS
        return (fresh_too or not fresh) and not unread(self.transport)

    def make_room(self) -> None:
        """Close the connection; a client whose head has begun to arrive gets an answer."""
        if self._in_head and not self._lingers:
            self._refuse(_too_many())
        self.transport.close()


def unread(transport: asyncio.Transport) -> bool:
    """Return whether bytes have arrived that the event loop has not read yet."""
    connection = transport.get_extra_info("socket")
    count = array("i", [0])
    try:
        fcntl.ioctl(connection.fileno(), termios.FIONREAD, count)
    except (OSError, ValueError):  # the connection is closed already: uvicorn calls shutdown on every connection
        return False
    return count[0] > 0


def _too_many() -> Problem:
    return unavailable("too many connections are open", reason="connections", retry_after=1)
