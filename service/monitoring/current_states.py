"""The state that each monitor is in, and since when; changes are logged."""

import datetime as dt
import threading
from collections.abc import Callable

from guards.monitors.base import State, Statistic
from service.monitoring.state_log import StateLog

__all__ = ["CurrentStates"]


class CurrentStates:
    """Knows the last state of each monitor and the time at which the state began; any thread may use it."""

    def __init__(self) -> None:
        self._lock, self._log = threading.Lock(), StateLog()
        self._found: dict[str, tuple[State, str]] = {}

    def begin(self, monitor: str, state: State, since: str | None = None) -> None:
        """Set the state of a monitor that starts or was restored, without a line in the log; None: since now."""
        with self._lock:
            self._found[monitor] = (state, since or _now())

    def enter(self, monitor: str, state: State, cause: Callable[[], Statistic | None]) -> tuple[State, str]:
        """Record a monitor's state, and log the state if it differs from the state that was logged last.

        ``cause`` gives the statistic behind the state. The state is returned with the time at which it began.
        """
        with self._lock:
            before, since = self._found[monitor]
            if before != state:
                since = _now()
                self._found[monitor] = (state, since)
            self._log.note(monitor, state, before, cause)
        return state, since

    def all(self) -> dict[str, tuple[State, str]]:
        """Map each monitor's name to its state and to the time at which the state began."""
        with self._lock:
            return dict(self._found)


def _now() -> str:
    return dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
