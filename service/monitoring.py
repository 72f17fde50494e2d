"""Feeds the monitors once a batch, after the requests in it have their answers, and reads them for everybody else."""

import datetime as dt
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from guards.monitor import CountingMonitor, Monitor, Series, State, Statistic
from guards.recent import windows_of
from guards.records import Records
from guards.types import Batch, Outcome
from service.exported_series import ExportedSeries
from service.state_log import StateLog
from service.tallies import Tallies, tally, totals_of
from service.totals import Sums
from service.worker import Worker

__all__ = ["Arrays", "Monitoring"]

LOG = logging.getLogger("guardhouse")
T = TypeVar("T")
JUDGED = ("report", "state", "cause")
"""Questions that a counting monitor answers by its totals alone."""
Arrays = dict[str, npt.NDArray[np.generic]]
SAVED = frozenset(
    {"bool", "float16", "float32", "float64", *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64))}
)
"""The types that a file of tensors has for what a monitor keeps."""


class Monitoring:
    """Holds the monitors; the device's thread shows them batches while other threads read them, one at a time.

    One that crashes is logged, and harms neither the others nor a prediction, a scrape or a report. What is slow is
    done in another process; see :class:`Worker`.
    """

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self.monitors = tuple(monitors)
        self.batches = self.outcomes = 0
        """How many batches, and how many lots of outcomes, have been counted: whoever watches looks again on more."""
        self._lock, self._entering = threading.Lock(), threading.Lock()
        self._judging = threading.Lock()
        """Held while counting monitors are judged: by copies of their counts, so that no batch waits for it."""
        for monitor in self.monitors:
            monitor.deferred = True
        self.worker = Worker(self.monitors, self._lock)
        self._states: dict[str, tuple[State, str]] = {}
        self._exported, self._scraping = ExportedSeries(), threading.Lock()
        self._changes = StateLog()
        for monitor in self.monitors:
            self._states[monitor.name] = (self._state(monitor), _now())

    def observe(self, batch: Batch, outcome: Outcome) -> None:
        """Show every monitor a batch."""
        for monitor in self.monitors:
            if self._ask(monitor, "observe", lambda each: _shown(each, batch, outcome)):
                self.worker.wake()
        self.batches += 1

    def close(self) -> None:
        """End the process of the slow work."""
        self.worker.close()

    def series(self) -> list[Series]:
        """Give what Prometheus scrapes, every series once; nothing of a monitor that crashes.

        Counters are of this process since its start: what a snapshot restored is not in them.
        """
        with self._scraping:  # two scrapes at once must not export an older count after a newer one
            told = {monitor.name: self._ask(monitor, "series", _series) for monitor in self.monitors}
            return self._exported.of({name: series or () for name, series in told.items()})

    def groups_of(self, batch: Batch) -> dict[str, npt.NDArray[np.int64]]:
        """Tell each row's level code (n,) by every monitor that has groups."""
        groupings = {m.grouping.name: m.grouping for m in self.monitors if m.grouping is not None}
        return {name: grouping.group_of(batch).cpu().numpy() for name, grouping in groupings.items()}

    def tally(self, records: Records) -> Tallies:
        """Turn rows into the counts of every monitor that keeps any."""
        return tally(self.monitors, records)

    def learn(self, rows: int, tallies: Tallies) -> None:
        """Add so many outcomes to what this process has counted itself; answers were counted as they were observed."""
        self.outcomes += 1
        with self._lock:
            for monitor in self.monitors:
                if isinstance(monitor, CountingMonitor) and monitor.name in tallies:
                    monitor.add("outcomes", rows, tallies[monitor.name])

    def report(self, sums: Sums | None = None) -> dict[str, Any]:
        """Give the state of every monitor, as ``/monitors`` answers it.

        ``sums`` are the store's, of the served bundle, which the counting monitors are judged by from now on; without
        them a counting monitor is judged by what this process has counted itself.
        """
        with self._judging:
            self._take(sums)
            reports = {monitor.name: self._report(monitor) for monitor in self.monitors}
        return {"monitors": reports, "totals": "process" if sums is None else "store"}

    def report_aside(self, sums: Sums) -> dict[str, Any]:
        """Give what the counting monitors make of totals of more than the served bundle; their states stay."""
        reports = {}
        for monitor in self.monitors:
            if isinstance(monitor, CountingMonitor):
                aside = monitor.aside(totals_of(sums.totals.get(monitor.name, {}), monitor.counts))
                told = self._ask(aside, "report", lambda each: (each.state(), _statistics(each)))
                reports[monitor.name] = _entry(monitor, told, None)
        return {"monitors": reports, "totals": "store"}

    def judge(self, sums: Sums | None = None) -> None:
        """Bring the state of every monitor up to date; ``sums`` as for :meth:`report`."""
        with self._judging:
            self._take(sums)
            for monitor in self.monitors:
                self._enter(monitor, self._state(monitor))

    def look(self) -> dict[str, tuple[State, str]]:
        """Give the state of every monitor and since when it is in it; a counting monitor's as it was judged last."""
        for monitor in self.monitors:
            if not isinstance(monitor, CountingMonitor):
                self._enter(monitor, self._state(monitor))
        return dict(self._states)

    def states(self) -> dict[str, tuple[str, State]]:
        """Give the kind and the state of every monitor by its name, as :meth:`look` finds it."""
        found = self.look()
        return {monitor.name: (monitor.kind, found[monitor.name][0]) for monitor in self.monitors}

    def _take(self, sums: Sums | None) -> None:
        """Give every counting monitor the totals and the windows that it is judged by."""
        for monitor in self.monitors:
            if not isinstance(monitor, CountingMonitor):
                continue
            with self._lock:
                totals = monitor.counts.copy()
                own = {stage: blocks.counts for stage, blocks in monitor.blocks.items()}
                windows = windows_of(own, totals.size) if sums is None else ()
            if sums is not None:
                totals = totals_of(sums.totals.get(monitor.name, {}), totals)
                stored = {
                    stage: [totals_of(block.get(monitor.name, {}), totals) for block in each]
                    for stage, each in sums.blocks.items()
                }
                windows = windows_of(stored, totals.size)
            monitor.totals, monitor.windows = totals, windows

    def snapshot(self) -> dict[str, Arrays]:
        """Copy the live state of every monitor that gives any; what is counted is the store's to keep."""
        lasting = [monitor for monitor in self.monitors if not isinstance(monitor, CountingMonitor)]
        given = {monitor.name: self._ask(monitor, "snapshot", _snapshot) for monitor in lasting}
        return {name: arrays for name, arrays in given.items() if arrays}

    def restore(self, name: str, arrays: Arrays, state: State, since: str) -> None:
        """Let a monitor go on from a snapshot that it gave when it was in ``state`` since then.

        Raises:
            Exception: whatever the monitor has against it; it is then as it was.
        """
        monitor = next(each for each in self.monitors if each.name == name)
        with self._lock:
            before = _snapshot(monitor)
            try:
                if arrays:
                    monitor.restore(arrays)
                found = monitor.state()
                series = _series(monitor)
            except Exception:
                if before:
                    monitor.restore(before)
                raise
            self._exported.restored(name, series)
            self._states[name] = (found, since if found == state else _now())

    def _report(self, monitor: Monitor) -> dict[str, Any]:
        told = self._ask(monitor, "report", lambda each: (each.state(), _statistics(each)))
        _, since = self._enter(monitor, "insufficient_data" if told is None else told[0])
        return _entry(monitor, told, since)

    def _state(self, monitor: Monitor) -> State:
        """Give a monitor's state; if it crashed, `insufficient_data`."""
        return self._ask(monitor, "state", lambda each: each.state()) or "insufficient_data"

    def _enter(self, monitor: Monitor, state: State) -> tuple[State, str]:
        """Record a monitor's state, and log it if it is another than the last one logged."""
        with self._entering:
            before, since = self._states[monitor.name]
            if before != state:
                since = _now()
                self._states[monitor.name] = (state, since)
            self._changes.note(monitor.name, state, before, lambda: self._ask(monitor, "cause", _cause))
        return state, since

    def _ask(self, monitor: Monitor, what: str, question: Callable[[Monitor], T]) -> T | None:
        try:
            # A counting monitor's report is made of copies: no batch waits until it is done.
            with nullcontext() if isinstance(monitor, CountingMonitor) and what in JUDGED else self._lock:
                return question(monitor)
        except Exception as crash:  # noqa: BLE001 - a third party's code
            LOG.error("monitor %s crashed in %s: %s", monitor.name, what, type(crash).__name__)  # noqa: TRY400
            return None


def _entry(monitor: Monitor, told: tuple[State, list[dict[str, Any]]] | None, since: str | None) -> dict[str, Any]:
    """Write what a monitor told; None if it crashed."""
    state, statistics = ("insufficient_data", []) if told is None else told
    entry = {"kind": monitor.kind, "state": state, "since": since, "statistics": statistics}
    return entry if told is not None else entry | {"error": "the monitor crashed; the log says how"}


def _shown(monitor: Monitor, batch: Batch, outcome: Outcome) -> bool:
    """Show a monitor a batch, and tell whether slow work waits."""
    monitor.observe(batch, outcome)
    return monitor.waiting > 0


def _statistics(monitor: Monitor) -> list[dict[str, Any]]:
    return [
        {
            "name": statistic.name,
            "value": None if statistic.value is None else float(statistic.value),
            "interval": None if statistic.interval is None else tuple(map(float, statistic.interval)),
            "n": int(statistic.n),
            "labels": {str(name): str(value) for name, value in statistic.labels.items()},
        }
        for statistic in monitor.report()
    ]


def _cause(monitor: Monitor) -> Statistic | None:
    return monitor.cause()


def _series(monitor: Monitor) -> list[Series]:
    """Make sure that every sample can be written."""
    return [
        Series(s.metric, s.kind, {name: str(value) for name, value in s.labels.items()}, float(s.value))
        for s in monitor.series()
    ]


def _snapshot(monitor: Monitor) -> Arrays:
    """Copy the arrays of a snapshot, which the monitor may go on to count in.

    Raises:
        TypeError: one of them is no plain array of numbers.
    """
    copies = {str(name): np.array(array, order="C") for name, array in monitor.snapshot().items()}
    if odd := [name for name, array in copies.items() if array.dtype.name not in SAVED]:
        raise TypeError(f"{odd[0]} holds {copies[odd[0]].dtype}, where a snapshot holds numbers")
    return copies


def _now() -> str:
    return dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
