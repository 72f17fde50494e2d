"""The log lines about monitors' states: one line for each change, and fewer lines if a state changes very often."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from guards.monitors.base import State, Statistic

__all__ = ["StateLog"]

LOG = logging.getLogger("guardhouse")
BURST = 5
"""How many changes of one monitor are logged at once; after these, one change every :data:`REFILL_SECONDS`."""
REFILL_SECONDS = 60.0


@dataclass(slots=True)
class Logged:
    """The monitor's state in the last log line, and how many lines are still allowed."""

    state: State
    lines: float
    at: float
    changes: int = 0
    """Changes since the last line."""


class StateLog:
    """Logs the changes of every monitor's state: a change to `alarm` as a warning, any other change as information.

    If a state changes very often, some changes have no line. As soon as a line is allowed again, a line says which
    state the monitor is in and how many changes had no line. So the last line never stays wrong.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the time from ``clock``, in seconds."""
        self._clock = clock
        self._logged: dict[str, Logged] = {}

    def note(self, monitor: str, state: State, before: State, cause: Callable[[], Statistic | None]) -> None:
        """Log a monitor's ``state`` if it is not the one logged last; ``cause`` gives the statistic behind the state.

        ``before`` is the state at the last call.
        """
        now = self._clock()
        logged = self._logged.setdefault(monitor, Logged(before, BURST, now))
        logged.lines, logged.at = min(BURST, logged.lines + (now - logged.at) / REFILL_SECONDS), now
        logged.changes += state != before
        if state == logged.state or logged.lines < 1:
            return
        LOG.log(
            logging.WARNING if state == "alarm" else logging.INFO,
            "monitor %s: from %s to %s%s%s",
            monitor,
            logged.state,
            state,
            _text(cause()),
            f" ({logged.changes} changes since the last line)" if logged.changes > 1 else "",
        )
        logged.state, logged.lines, logged.changes = state, logged.lines - 1, 0


def _text(statistic: Statistic | None) -> str:
    """Write a statistic with its labels, value, interval and rows; nothing if there is none."""
    if statistic is None:
        return ""
    labels = ", ".join(f"{name} {value}" for name, value in statistic.labels.items())
    value = "none" if statistic.value is None else f"{statistic.value:.4g}"
    interval = "" if statistic.interval is None else " [{:.4g}, {:.4g}]".format(*statistic.interval)
    return f": {statistic.name}{f' ({labels})' if labels else ''} is {value}{interval}, n = {statistic.n}"
