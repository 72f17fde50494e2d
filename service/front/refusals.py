"""Writes refusals no faster than the server can afford, so that refusing never takes the place of answering.

A refusal takes about a sixth of the processor time of an answer. At ten times the load that the server can answer,
refusing each request at once would take all of its time. A client waits for its refusal before it sends more, so a
refusal that is held back slows the flood down.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Refusals"]

PER_ANSWER, PER_SECOND = 2.0, 1000.0
"""How many refusals an answer allows, so that at three times the load nobody waits for a refusal; and how many are
written in any case, so that refusals do not wait for a slow model."""
AT_ONCE = 64.0
LOOK_SECONDS = 0.005
"""How often held refusals are written while no answer is."""


class Refusals:
    """The refusals of a front that wait to be written, the oldest first; used by the event loop alone."""

    def __init__(self) -> None:
        self._allowed, self._counted_at = AT_ONCE, time.monotonic()
        self._held: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, write: Callable[[], None]) -> None:
        """Write a refusal now or soon."""
        self._held.append(write)
        if len(self._held) == 1:
            self._write()

    def answered(self) -> None:
        """Note that a request was answered, which allows further refusals."""
        self._allowed += PER_ANSWER
        if self._held:
            self._write()

    def _write(self) -> None:
        """Write as many refusals as are allowed; look again soon if some are left."""
        now = time.monotonic()
        self._allowed = min(AT_ONCE, self._allowed + PER_SECOND * (now - self._counted_at))
        self._counted_at = now
        while self._held and self._allowed >= 1:
            self._allowed -= 1
            self._held.popleft()()
        if self._held and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        self._write()
