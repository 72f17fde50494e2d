"""The log lines about monitors' states: one for each change, and few if a state comes and goes."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from guards.monitor import State, Statistic

__all__ = ["StateLog"]

LOG = logging.getLogger("guardhouse")
BURST = 5
"""How many changes of one monitor are logged at once; after those, one more every :data:`REFILL_SECONDS`."""
REFILL_SECONDS = 60.0


@dataclass(slots=True)
class Told:
    """What the log last said of a monitor, and how many lines it may still have."""

    state: State
    lines: float
    at: float
    changes: int = 0
    """Changes since the last line."""


class StateLog:
    """Logs the changes of every monitor's state: into `alarm` as a warning, any other as information.

    A state that comes and goes has few lines. The last line is never left wrong: as soon as a line is allowed again,
    it says which state the monitor is in, and how many changes had no line.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the time from ``clock``, in seconds."""
        self._clock = clock
        self._told: dict[str, Told] = {}

    def note(self, monitor: str, state: State, before: State, cause: Callable[[], Statistic | None]) -> None:
        """Log a monitor's ``state`` if it is not the one logged last; ``cause`` gives the statistic behind the state.

        ``before`` is the state at the last call.
        """
        now = self._clock()
        told = self._told.setdefault(monitor, Told(before, BURST, now))
        told.lines, told.at = min(BURST, told.lines + (now - told.at) / REFILL_SECONDS), now
        told.changes += state != before
        if state == told.state or told.lines < 1:
            return
        LOG.log(
            logging.WARNING if state == "alarm" else logging.INFO,
            "monitor %s: from %s to %s%s%s",
            monitor,
            told.state,
            state,
            _text(cause()),
            f" ({told.changes} changes since the last line)" if told.changes > 1 else "",
        )
        told.state, told.lines, told.changes = state, told.lines - 1, 0


def _text(statistic: Statistic | None) -> str:
    """Write a statistic with its labels, value, interval and rows; nothing if there is none."""
    if statistic is None:
        return ""
    labels = ", ".join(f"{name} {value}" for name, value in statistic.labels.items())
    value = "none" if statistic.value is None else f"{statistic.value:.4g}"
    interval = "" if statistic.interval is None else " [{:.4g}, {:.4g}]".format(*statistic.interval)
    return f": {statistic.name}{f' ({labels})' if labels else ''} is {value}{interval}, n = {statistic.n}"
