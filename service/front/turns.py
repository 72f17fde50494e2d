"""Begins requests a few at a time, so that a crowd of new requests does not delay the answers to earlier requests.

An event loop reads every connection that has something to read before it looks at the engine's answers again. If
hundreds of connections send at once, even refusing them takes so long that the engine idles. So while the server is
busy, requests line up, and in each round of the event loop a few of them begin or are refused, the oldest first.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Turns"]

AT_ONCE = 32
LONG_ROUND_SECONDS = 0.005
"""A round of the event loop that takes longer makes requests wait in the system noticeably."""


class Turns:
    """The requests of a front that were read and have not begun; used by the event loop alone."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        """Let requests begin at once unless ``is_busy()``."""
        self._is_busy = is_busy
        self._line: deque[Callable[[], None]] = deque()
        self._begun = 0
        """How many requests have begun in this round of the event loop."""
        self._counts = False
        self._round_began, self._long_round = 0.0, False

    @property
    def delay(self) -> bool:
        """Whether a request may have waited for its turn, or in the system because the last round took long."""
        return self._long_round or bool(self._line)

    def add(self, begin: Callable[[], None]) -> None:
        """Begin a request now or in one of the next rounds."""
        if not self._counts and not self._is_busy():
            begin()
            return
        if not self._counts:
            self._counts, self._round_began = True, time.perf_counter()
            asyncio.get_running_loop().call_soon(self._next_round)
        if self._line or self._begun >= AT_ONCE:
            self._line.append(begin)
        else:
            self._begun += 1
            begin()

    def _next_round(self) -> None:
        if not self._begun:  # nothing came in the last round
            self._counts = self._long_round = False
            return
        now = time.perf_counter()
        self._round_began, self._long_round = now, now - self._round_began > LONG_ROUND_SECONDS
        asyncio.get_running_loop().call_soon(self._next_round)
        self._begun = min(AT_ONCE, len(self._line))
        for _ in range(self._begun):
            self._line.popleft()()
