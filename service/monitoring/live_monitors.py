"""Passes each answered batch to the monitors, and reads the monitors' states, reports and series for other parts."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from guards.monitors.answered_rows import Records, group_codes
from guards.monitors.base import Monitor, Series, State
from guards.monitors.optional_methods import HasCounts, HasSlowWork
from guards.statistics.recent_blocks import windows_of
from guards.types import Batch, Result
from service.messages.monitor_changes import Change
from service.monitoring.counts import tally
from service.monitoring.current_states import CurrentStates
from service.monitoring.exported_series import ExportedSeries
from service.monitoring.monitor_readings import (
    Arrays,
    cause_of,
    copied_snapshot,
    entry_of,
    restore_snapshot,
    series_to_scrape,
    statistics_of,
    without_small,
)
from service.monitoring.outcome_lot import OutcomeLot
from service.monitoring.resets import Resets
from service.monitoring.sums import Sums, Tallies, judged, totals_of
from service.monitoring.teaching import Without, counted
from service.monitoring.worker_client import Worker

__all__ = ["Arrays", "Monitoring"]

LOG = logging.getLogger("guardhouse")
T = TypeVar("T")
M = TypeVar("M", bound=Monitor)
NOTHING: Without = {}
JUDGED = ("report", "state", "cause")
"""The calls that a counting monitor answers from its totals alone."""


class Monitoring:
    """Holds the monitors. The device's thread passes batches to them; other threads read them, one thread at a time.

    If a monitor crashes, this is logged, and the other monitors, predictions, scrapes and reports go on. Slow work is
    done in another process; see :class:`Worker`.
    """

    def __init__(
        self, monitors: Sequence[Monitor], exported: ExportedSeries | None = None, *, smallest_count: int = 1
    ) -> None:
        """Hold the monitors; ``exported`` has the counters that earlier engines of the server exported.

        At least ``smallest_count`` outcomes are learnt together, and a figure of fewer rows is not reported.
        """
        self.monitors = tuple(monitors)
        self._smallest_count, self._lot = smallest_count, OutcomeLot(smallest_count)
        self.batches = self.outcomes = 0
        """How many batches, and how many sets of outcomes, were counted; if it grows, :class:`Watch` judges again."""
        self._lock = threading.Lock()
        self._judging, self._resetting = threading.Lock(), threading.Lock()
        """Held while counting monitors are judged. Judging uses copies of their counts, so no batch waits for it."""
        self._counting = {monitor.name: monitor for monitor in self.monitors if isinstance(monitor, HasCounts)}
        self._slow = {monitor.name: monitor for monitor in self.monitors if isinstance(monitor, HasSlowWork)}
        self.worker = Worker(tuple(self._slow.values()), self._lock)
        self._exported, self._scraping = exported or ExportedSeries(), threading.Lock()
        self._states = CurrentStates()
        for monitor in self.monitors:
            self._states.begin(monitor.name, self._state(monitor))
        self.resets = Resets(self.monitors)

    def observe(self, batch: Batch, result: Result, without: Without = NOTHING) -> None:
        """Pass a batch and its result to every monitor, without the rows that the monitor does not count."""
        for monitor in self.monitors:
            skipped = without.get(monitor.name)
            rows, found = (batch, result) if skipped is None else counted(batch, result, skipped)
            if len(rows) and self._ask(monitor, "observe", lambda each: self._show(each, rows, found)):  # noqa: B023 - called at once
                self.worker.wake()
        self.batches += 1

    def _show(self, monitor: Monitor, batch: Batch, result: Result) -> bool:
        """Pass a batch to a monitor, and return whether slow work waits."""
        monitor.observe(batch, result)
        slow = self._slow.get(monitor.name)
        return slow is not None and slow.waiting > 0

    def close(self) -> None:
        """End the processes that do the slow work."""
        self.worker.close()

    def series(self) -> list[Series]:
        """Give the series for Prometheus, every series once; a monitor that crashes gives no series.

        Counters count from the start of this server: counts from a snapshot are not in them.
        """
        with self._scraping:  # one scrape at a time, so that no older count is exported after a newer count
            told = {monitor.name: self._ask(monitor, "series", series_to_scrape) for monitor in self.monitors}
            return self._exported.of({name: series or () for name, series in told.items()})

    def groups_of(self, batch: Batch) -> dict[str, npt.NDArray[np.int64]]:
        """Map the name of each monitor's grouping to the level codes (n,) of the rows."""
        groupings = {m.grouping.name: m.grouping for m in self._counting.values() if m.grouping is not None}
        return {name: group_codes(batch, grouping) for name, grouping in groupings.items()}

    def tally(self, records: Records) -> Tallies:
        """Turn rows into the counts of every counting monitor."""
        return tally(self.monitors, records)

    def learn(self, rows: int, tallies: Tallies) -> None:
        """Add the counts of ``rows`` outcomes to this process's own counts; :meth:`observe` has counted the answers."""
        self.outcomes += 1
        with self._lock:
            rows, tallies = self._lot.add(rows, tallies)
            for name, counts in tallies.items():
                self._counting[name].add("outcomes", rows, counts)

    @property
    def without_totals(self) -> list[str]:
        """The monitors whose figures are no sums of counts, so that no row can be taken out of them."""
        return [monitor.name for monitor in self.monitors if monitor.name not in self._counting]

    def report(self, sums: Sums | None = None) -> dict[str, Any]:
        """Give the report of every monitor, as ``/monitors`` returns it.

        ``sums`` are the store's totals of the served bundle. From now on the counting monitors are judged by these
        totals. If ``sums`` is None, they are judged by this process's own counts.
        """
        with self._judging:
            self._take(sums)
            reports = {monitor.name: self._report(monitor) for monitor in self.monitors}
        return {"monitors": reports, "totals": "process" if sums is None else "store"}

    def report_aside(self, sums: Sums) -> dict[str, Any]:
        """Report totals of a scope wider than the bundle, with copies of the counting monitors: their states stay."""
        reports = {}
        for name, monitor in self._counting.items():
            aside = monitor.aside(totals_of(sums.totals.get(name, {}), monitor.counts))
            reports[name] = entry_of(monitor, self._ask(aside, "report", self._read), None)
        return {"monitors": reports, "totals": "store"}

    def judge(self, sums: Sums | None = None) -> None:
        """Update the state of every monitor; ``sums`` as for :meth:`report`."""
        with self._judging:
            self._take(sums)
            for monitor in self.monitors:
                self._enter(monitor, self._state(monitor))

    def look(self) -> dict[str, tuple[State, str]]:
        """Give each monitor's state and when it began; for a counting monitor, the state at the last judgement."""
        for monitor in self.monitors:
            if monitor.name not in self._counting:
                self._enter(monitor, self._state(monitor))
        return self._states.all()

    def states(self) -> dict[str, tuple[str, State]]:
        """Map each monitor's name to its kind and its state, as :meth:`look` returns the state."""
        found = self.look()
        return {monitor.name: (monitor.kind, found[monitor.name][0]) for monitor in self.monitors}

    def _take(self, sums: Sums | None) -> None:
        """Give every counting monitor the totals and the windows by which it is judged."""
        for monitor in self._counting.values():
            if sums is not None:
                monitor.judge_by(*judged(sums, monitor.name, monitor.counts))
                continue
            with self._lock:
                own = {stage: blocks.counts for stage, blocks in monitor.blocks.items()}
                found = monitor.counts.copy(), windows_of(own, monitor.counts.size)
            monitor.judge_by(*found)

    def snapshot(self) -> dict[str, Arrays]:
        """Copy the live state of every monitor that gives snapshots; counting monitors' counts are in the store."""
        lasting = [monitor for monitor in self.monitors if monitor.name not in self._counting]
        given = {monitor.name: self._ask(monitor, "snapshot", copied_snapshot) for monitor in lasting}
        return {name: arrays for name, arrays in given.items() if arrays}

    def restore(self, name: str, arrays: Arrays, state: State, since: str) -> None:
        """Restore a monitor from a snapshot. When it was taken, the monitor was in ``state``, since the time ``since``.

        Raises:
            Exception: the monitor rejects the snapshot; it keeps the state that it had before.
        """
        monitor = next(each for each in self.monitors if each.name == name)
        with self._lock:
            before = copied_snapshot(monitor)
            try:
                restore_snapshot(monitor, arrays)
                found = monitor.state()
                series = series_to_scrape(monitor)
            except Exception:
                restore_snapshot(monitor, before)
                raise
            self._exported.restored(name, series)
        # Without the lock, which a state's cause needs while the states are locked.
        self._states.begin(name, found, since if found == state else None)

    def reset(self, last: Mapping[str, Change]) -> None:
        """Reset every monitor that has not followed its ``last`` reset yet; ``last`` has a reset by monitor's name."""
        with self._resetting:
            for monitor in self.resets.due(last):
                change = last[monitor.name]
                with self._judging, self._scraping:
                    self._ask(monitor, "reset", lambda each: self._start_anew(each, change))  # noqa: B023 - called at once
                LOG.warning("monitor %s was reset", monitor.name)
                self._enter(monitor, self._state(monitor))
                self.batches += 1  # so that the state is judged and saved

    def _start_anew(self, monitor: Monitor, change: Change) -> None:
        """Reset a monitor. Its counters for Prometheus go on from where they are."""
        before = series_to_scrape(monitor)
        self.resets.follow(monitor, change)
        self._exported.continued(monitor.name, before, series_to_scrape(monitor))

    def _report(self, monitor: Monitor) -> dict[str, Any]:
        told = self._ask(monitor, "report", self._read)
        _, since = self._enter(monitor, "insufficient_data" if told is None else told[0])
        return entry_of(monitor, told, since)

    def _read(self, monitor: Monitor) -> tuple[State, list[dict[str, Any]]]:
        return monitor.state(), without_small(statistics_of(monitor), self._smallest_count)

    def _state(self, monitor: Monitor) -> State:
        """Give a monitor's state; if it crashed, `insufficient_data`."""
        return self._ask(monitor, "state", lambda each: each.state()) or "insufficient_data"

    def _enter(self, monitor: Monitor, state: State) -> tuple[State, str]:
        """Record a monitor's state, and return the state with the time at which it began."""
        return self._states.enter(monitor.name, state, lambda: self._ask(monitor, "cause", cause_of))

    def _ask(self, monitor: M, what: str, question: Callable[[M], T]) -> T | None:
        try:
            # A counting monitor is judged by copies of its counts, so it needs no lock, and no batch waits for it.
            with nullcontext() if monitor.name in self._counting and what in JUDGED else self._lock:
                return question(monitor)
        except Exception as crash:  # noqa: BLE001 - a plug-in's code may raise anything
            LOG.error("monitor %s crashed in %s: %s", monitor.name, what, type(crash).__name__)  # noqa: TRY400
            return None
