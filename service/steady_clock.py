"""The time of day by a clock that a jump of the system's clock does not move at once."""

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["SteadyClock"]

LOG = logging.getLogger("guardhouse")
JUMP_SECONDS = 60.0
"""A larger difference between the system's clock and the steady clock is a jump; smaller differences are followed."""
BELIEVE_SECONDS = 86400.0
"""After a jump, the system's clock is believed if it has run steadily for so long."""


def _since_boot() -> float:
    """Return a time that never jumps, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class SteadyClock:
    """Seconds since 1970. What is deleted for its age, and what expires, goes by this clock.

    A clock that is set a year ahead by mistake would make every stored row too old. So a jump is logged and not
    followed, until the system's clock has run steadily for a day. Any thread may ask.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _since_boot, *, quiet: bool = False
    ) -> None:
        """Believe the system's clock ``wall`` as it is now. ``quiet``: another clock of the server logs jumps."""
        self._wall, self._steady, self._quiet = wall, steady, quiet
        self._lock = threading.Lock()
        self._now, self._at = wall(), steady()
        self._ahead, self._jumped_at = 0.0, 0.0
        """How far the system's clock is ahead after a jump, and when the jump was seen; 0 if the clock is believed."""

    def now(self) -> float:
        """Return the time."""
        with self._lock:
            at = self._steady()
            self._now, self._at = self._now + at - self._at, at
            ahead = self._wall() - self._now
            if abs(ahead) <= JUMP_SECONDS:
                self._now, self._ahead = self._now + ahead, 0.0
            elif abs(ahead - self._ahead) > JUMP_SECONDS:
                self._ahead, self._jumped_at = ahead, at
                self._say("the system's clock jumped by %+.0f s: %s", ahead, "the jump is ignored for a day")
            elif at - self._jumped_at >= BELIEVE_SECONDS:
                self._now, self._ahead = self._now + ahead, 0.0
                self._say("the system's clock jumped by %+.0f s: %s", ahead, "after a day, the clock is believed")
            return self._now

    def doubt(self, now: float) -> None:
        """Go on from another time, until the system's clock has run steadily for a day."""
        with self._lock:
            self._now, self._at = now, self._steady()
            self._ahead, self._jumped_at = self._wall() - now, self._at

    def _say(self, *line: object) -> None:
        if not self._quiet:
            LOG.warning(*line)
