"""The HTTP connections of a front: how many may be open, which of them ends first, and how much lies unread in them."""

import logging
import os
import resource
import time
from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum, auto
from itertools import islice
from typing import Protocol

from service.front.dispatch import UNMATCHED
from service.front.protocols.problem import Problem
from service.telemetry.metrics.front import FrontMetrics

__all__ = ["LEAST_FILES", "Connection", "Connections", "Place", "most_files"]

LOG = logging.getLogger("guardhouse")
SPARE = 32
"""Descriptors that a front may need at any moment for other things: the engine's sockets and memory, files, threads."""
FOR_PROBES = 16
"""Connections above the bound that are answered only if they ask for a probe or for metrics."""
LEAST_FILES = 128
"""The lowest limit of open files with which a front starts. It leaves a few dozen connections."""
COUNT_SECONDS = 1.0
"""How often the open files are counted while many are open."""
LOOKED_AT = 16
"""How many of the connections that wait longest are looked at to find a connection that may end."""
QUIET_SECONDS = 60.0
"""After so many seconds without trouble, trouble is logged again."""
MOST_UNREAD_BYTES = 64 << 20
"""How many bytes of answers may wait in this process for clients that do not read them, over all connections."""
FULL = (
    "of %d files that this process may open, nearly all are open (%d connections): the connections that wait longest "
    "are closed; if none waits, further connections are answered 503; raise the limit (ulimit -n)"
)
UNREAD = "clients do not read their answers: their connections are closed"
DESCRIPTORS = "/proc/self/fd"


class Place(Enum):
    """What a new connection may ask for."""

    ANY = auto()
    PROBES = auto()
    NONE = auto()


class Connection(Protocol):
    """What :class:`Connections` needs of a connection."""

    def may_end(self, *, fresh_too: bool = False) -> bool:
        """Return whether no request of the connection is under way, as far as this process can know.

        A fresh connection has just begun to wait, and its request is probably on its way.
        """

    def make_room(self) -> None:
        """Close the connection."""

    def give_up(self) -> None:
        """Close the connection at once, with what the client has not read."""

    def shutdown(self) -> None:
        """Close the connection because the server ends, after the request that is being answered."""


class Connections:
    """All open connections of a front, from the connection that waits longest for a request to the latest.

    The operating system bounds the open files of a process. If they were used up, nobody could connect, and no probe
    could be answered. So there are fewer connections than files. Beyond that bound, a new connection takes the place of
    the connection that has waited longest for a request. If no connection has waited for a moment, the new connection
    is one of a few that may ask for probes. If these are used up too, the connection that has waited longest makes room
    even if it is fresh; and if all are at work, the new connection is refused.
    """

    def __init__(self, metrics: FrontMetrics, *, read_seconds: float) -> None:
        """Count in ``metrics``; a client may take ``read_seconds`` to read an answer."""
        self.read_seconds = read_seconds
        self._metrics = metrics
        self._open: set[Connection] = set()
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._unread: OrderedDict[Connection, int] = OrderedDict()
        self._unread_bytes = 0
        self._others, self._counted_at = 0, -COUNT_SECONDS
        self._full, self._slow = Burst(), Burst()

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection, descriptor: int) -> Place:
        """Add a new connection, whose file is ``descriptor``, and say what the connection may ask for.

        The kernel gives the lowest free number. So if that number is low, few files are open.
        """
        self._open.add(connection)
        self._metrics.connected(len(self._open))
        limit = most_files()
        if limit is None or max(descriptor, len(self._open)) < limit // 2:
            return Place.ANY
        room = limit - SPARE - FOR_PROBES - self._other_files() - len(self._open)
        if room >= 0:
            return Place.ANY
        if self._full.begins():
            LOG.warning(FULL, limit, len(self._open))
        while room < 0 and self._make_room():
            room += 1
        if room >= 0:
            return Place.ANY
        room += FOR_PROBES
        if room < 0 and self._make_room(fresh_too=True):
            room += 1
        return Place.PROBES if room >= 0 else Place.NONE

    def forget(self, connection: Connection) -> None:
        """Remove a connection that is closed, or that is being closed."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self.was_read(connection)
        self._metrics.connected(len(self._open))

    def waits(self, connection: Connection, *, ends: bool = False) -> None:
        """Record that a connection begins to wait for a request, or that it ends and waits for its client to close."""
        if connection in self._open and connection not in self._unread:
            self._waiting[connection] = None
            self._waiting.move_to_end(connection, last=not ends)

    def works(self, connection: Connection) -> None:
        """Record that a request of a connection has begun."""
        self._waiting.pop(connection, None)

    def refused(self, problem: Problem) -> None:
        """Count an answer that has no request's record, because no head was accepted."""
        self._metrics.requests.add(UNMATCHED, str(int(problem.status)))
        if problem.reason is not None:
            self._metrics.shed.add(problem.reason)

    def unread(self, connection: Connection, size: int) -> None:
        """Record that ``size`` bytes wait for a client. If too many wait, the client that waits longest is given up."""
        self._waiting.pop(connection, None)
        self._unread[connection] = size
        self._unread_bytes += size
        while self._unread_bytes > MOST_UNREAD_BYTES and len(self._unread) > 1:
            slowest = next(iter(self._unread))
            self.was_read(slowest)
            self.too_slow(slowest)

    def was_read(self, connection: Connection) -> None:
        """Record that nothing waits for a client any more."""
        self._unread_bytes -= self._unread.pop(connection, 0)

    def too_slow(self, connection: Connection) -> None:
        """Give up a client that does not read its answer."""
        if self._slow.begins():
            LOG.warning(UNREAD)
        connection.give_up()

    def _make_room(self, *, fresh_too: bool = False) -> bool:
        """Close the connection that has waited longest for a request; return false if none may be closed."""
        for connection in islice(self._waiting, LOOKED_AT):
            if connection.may_end(fresh_too=fresh_too):
                self.forget(connection)  # now, and not when it is closed, so that the next one is not closed for it
                connection.make_room()
                return True
        return False

    def _other_files(self) -> int:
        """Return how many files are open that are no HTTP connections; counted once a second at most."""
        now = time.monotonic()
        if now - self._counted_at >= COUNT_SECONDS:
            self._counted_at = now
            self._others = max(0, len(os.listdir(DESCRIPTORS)) - 1 - len(self._open))  # noqa: PTH208 - only counted
        return self._others


class Burst:
    """Tells the beginning of a burst of events from the events that follow."""

    def __init__(self) -> None:
        self._last = -QUIET_SECONDS

    def begins(self) -> bool:
        """Note an event; return whether the last event was long ago."""
        now = time.monotonic()
        before, self._last = self._last, now
        return now - before >= QUIET_SECONDS


def most_files() -> int | None:
    """Return how many files this process may open; None if there is no limit. An operator may change the limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit
