"""How many predictions a front answers at one time: a limit that follows how long the answers take.

If more requests come than can be answered, every request that is taken in makes all others wait longer. So beyond the
limit a request is refused at once, and the requests that are taken in are answered about as fast as on an idle server.
While answers come in time, the limit grows by its square root: up to its first value, and further while it is reached.
If they are late for half a second, and at least half of the limit was used, it shrinks in proportion to the delay
(additive increase, multiplicative decrease; Envoy's adaptive concurrency and Netflix's concurrency-limits are the
models).
"""

import time
from collections.abc import Callable
from math import sqrt
from typing import Self

from service.messages.refused import Refused
from service.messages.seat import Seat

__all__ = ["OVERLOAD", "ConcurrencyLimit", "Ticket"]

LEAST, FIRST, MOST = 32.0, 512.0, 65536.0
"""The bounds of the limit, and its value at the start."""
FEW = 64
"""So few connections cannot overload a server: each sends its next request after its answer. They are never refused."""
BUSY = 16.0
"""From so many requests in flight on, others may wait in the system to be read."""
ROWS, MOST_HELD = 4, 8.0
"""So many rows of one request count as one request, up to so many requests: a longer one takes turns with others."""
BATCHES, SLACK_SECONDS = 2, 0.01
"""Answers come in time if they take this many batches, and so many seconds for everything but the model."""
WINDOW_SECONDS, WINDOW_ANSWERS = 0.1, 16
"""How long, and for how many answers at least, the limit watches before it changes."""
SLOWEST = 0.9
"""The quantile of a window's answers that must come in time."""
PATIENCE_SECONDS = 0.5
"""For so long answers must be late before the limit shrinks: a burst that passes is answered, and not refused."""
LOWEST_SHRINK, HIGHEST_SHRINK = 0.5, 0.95
OVERLOAD = "more requests come than the server can answer; send the request again in a moment"


class Ticket:
    """One request that was taken in: whose it is, how much of the limit it holds, and when it arrived.

    The ticket is a context that lasts until the request ends. A class costs half of what a generator costs here.
    """

    __slots__ = ("_limit", "arrived", "caller", "held")

    def __init__(self, limit: "ConcurrencyLimit", caller: str, arrived: float) -> None:
        self._limit, self.caller, self.arrived, self.held = limit, caller, arrived, 0.0

    def __enter__(self) -> Self:
        """Begin the request."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End the request; ``kind`` is None if it was answered."""
        self._limit.leave(self, answered=kind is None)

    def weigh(self, rows: int) -> None:
        """Hold as much of the limit as so many rows need."""
        self._limit.hold(self, min(MOST_HELD, max(1.0, rows / ROWS)))


class ConcurrencyLimit:
    """The predictions of a front that are being answered. Used by the event loop alone."""

    def __init__(self, batch_seconds: Callable[[], float], seat: Seat) -> None:
        """Ask ``batch_seconds`` how long recent batches took, and write the limit into the front's ``seat``."""
        self._batch_seconds, self._seat = batch_seconds, seat
        self._held: dict[str, float] = {}
        """How much of the limit each caller holds; callers that hold nothing are left out."""
        self._in_flight = self._peak = 0.0
        self._seconds: list[float] = []
        """How long the answers of this window took."""
        self._window_end = 0.0
        self._slow_since: float | None = None
        """Since when answers take too long; None if the last window's came in time."""
        self._usual, self._usual_until = 0.0, 0.0
        """How long half of the last window's answers took, and until when that says something."""
        self._limit = seat.concurrency_limit = FIRST

    @property
    def limit(self) -> float:
        """How much may be held at one time."""
        return self._limit

    @property
    def in_flight(self) -> float:
        """How much is held now."""
        return self._in_flight

    @property
    def is_reached(self) -> bool:
        """Whether some callers must be refused."""
        return self._in_flight >= self._limit

    @property
    def is_busy(self) -> bool:
        """Whether so many requests are being answered that others may wait in the system to be read."""
        return self._in_flight >= BUSY

    def admits(self, caller: str) -> bool:
        """Return whether a caller may enter.

        The limit is shared among the callers with requests in flight. If it is reached, a caller that holds less than
        its share may still enter, up to its share. So a caller with many requests cannot keep the others out.
        """
        if self._in_flight < self._limit:
            return True
        held = self._held.get(caller)
        callers = len(self._held) + (held is None)
        return (held or 0.0) + 1.0 <= self._limit / callers

    def enter(self, caller: str, arrived: float, seconds_left: float) -> Ticket:
        """Hold a part of the limit for a request of ``caller``, until its ticket's context ends.

        Args:
            caller: whose request it is.
            arrived: when the request arrived, by ``time.perf_counter``.
            seconds_left: how long the caller still waits.

        Raises:
            Refused: the limit is reached, or the answer would probably come too late.
        """
        if not self.admits(caller):
            raise Refused("overload", OVERLOAD)
        if self._in_flight >= LEAST and seconds_left < self._usual and time.perf_counter() < self._usual_until:
            raise Refused("deadline", "the deadline cannot be met", retry_after=self._usual)
        ticket = Ticket(self, caller, arrived)
        self.hold(ticket, 1.0)
        return ticket

    def hold(self, ticket: Ticket, amount: float) -> None:
        """Change how much of the limit a request holds."""
        self._in_flight += amount - ticket.held
        self._peak = max(self._peak, self._in_flight)
        self._held[ticket.caller] = self._held.get(ticket.caller, 0.0) + amount - ticket.held
        ticket.held = amount

    def leave(self, ticket: Ticket, *, answered: bool) -> None:
        """Give back what a request holds; if it was ``answered``, count how long the answer took."""
        self._in_flight -= ticket.held
        left = self._held[ticket.caller] - ticket.held
        if left > 0:
            self._held[ticket.caller] = left
        else:
            del self._held[ticket.caller]
        if answered:
            now = time.perf_counter()
            if now > self._window_end + PATIENCE_SECONDS:  # what was measured before a pause says nothing now
                self._seconds.clear()
                self._slow_since, self._window_end = None, now + WINDOW_SECONDS
            self._seconds.append(now - ticket.arrived)
            if now >= self._window_end and len(self._seconds) >= WINDOW_ANSWERS:
                self._adapt(now)

    def _adapt(self, now: float) -> None:
        """End a window, and set the limit."""
        took = sorted(self._seconds)
        slow = took[int(SLOWEST * len(took))]
        in_time = BATCHES * self._batch_seconds() + SLACK_SECONDS
        if slow <= in_time:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = now
        if self._slow_since is not None:
            # If less than half of the limit is used, answers are slow for another reason.
            if now - self._slow_since >= PATIENCE_SECONDS and self._peak >= self._limit / 2:
                self._limit *= min(HIGHEST_SHRINK, max(LOWEST_SHRINK, in_time / slow))
        elif self._limit < FIRST or self._peak >= self._limit:
            self._limit += sqrt(self._limit)
        self._limit = min(MOST, max(FEW if self._seat.connections <= FEW else LEAST, self._limit))
        self._seat.concurrency_limit = self._limit
        self._usual, self._usual_until = took[len(took) // 2], now + 1.0
        self._seconds.clear()
        self._peak, self._window_end = self._in_flight, now + WINDOW_SECONDS
