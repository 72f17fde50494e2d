"""Resets of monitors: which resets a monitor has followed, and how a monitor starts anew."""

import time
from collections.abc import Mapping, Sequence

from guards.monitors.base import Monitor
from guards.monitors.optional_methods import HasCounts
from service.messages.monitor_changes import Change
from service.monitoring.monitor_readings import Arrays, copied_snapshot, restore_snapshot

__all__ = ["Resets"]


class Resets:
    """The resets of one server's monitors.

    A monitor can be reset if it counts, or if it gives snapshots: then the snapshot of its start is restored.
    """

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        """Note the monitors at their start, before they have seen a row, and before a snapshot is restored."""
        self._monitors, self._started = tuple(monitors), time.time()
        self._counting = {monitor.name for monitor in monitors if isinstance(monitor, HasCounts)}
        self._first: dict[str, Arrays] = {}
        for monitor in monitors:
            if monitor.name not in self._counting:
                try:
                    self._first[monitor.name] = copied_snapshot(monitor)
                except Exception:  # noqa: BLE001 - a plug-in's code may raise anything; it cannot be reset then
                    self._first[monitor.name] = {}
        self.followed: dict[str, float] = {}
        """The time of the last reset that each monitor has followed."""
        self._restored: set[str] = set()

    def possible(self, name: str) -> bool:
        """Say whether a monitor can be reset."""
        return name in self._counting or bool(self._first.get(name))

    def restored(self, name: str, followed: float | None) -> None:
        """Note that a monitor was restored from a snapshot, which had followed the reset at the time ``followed``."""
        self._restored.add(name)
        if followed is not None:
            self.followed[name] = followed

    def due(self, last: Mapping[str, Change]) -> list[Monitor]:
        """List the monitors that have to be reset.

        A monitor that started anew after its last reset has nothing to forget. Otherwise times are compared for
        equality alone, because the clocks of servers differ.
        """
        found = []
        for monitor in self._monitors:
            change = last.get(monitor.name)
            if change is None or self.followed.get(monitor.name) == change.time or not self.possible(monitor.name):
                continue
            fresh = monitor.name not in self.followed and monitor.name not in self._restored
            if fresh and change.time < self._started:
                self.followed[monitor.name] = change.time
            else:
                found.append(monitor)
        return found

    def follow(self, monitor: Monitor, change: Change) -> None:
        """Let a monitor forget every row and its alarm."""
        if isinstance(monitor, HasCounts):
            monitor.forget()
        else:
            arrays = {name: array.copy() for name, array in self._first[monitor.name].items()}
            restore_snapshot(monitor, arrays)  # copies, because the monitor may go on in these arrays
        self.followed[monitor.name] = change.time
