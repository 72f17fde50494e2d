"""Feeds the monitors once a batch, after the requests in it have their answers."""

import datetime as dt
import logging
import threading
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from guards.config import Config
from guards.monitor import Monitor, State
from guards.monitors.groups import Groups
from guards.records import Records
from guards.types import Batch, Outcome

__all__ = ["Monitoring", "Tallies"]

LOG = logging.getLogger("guardhouse")
DEPLOY_TIME = {"average_run_length", "tolerance"}
"""Keys of a monitor's that change how its counts are judged, and not what is counted."""
Counts = npt.NDArray[np.int64]
Tallies = Mapping[str, Counts]
"""By monitor: counts of the monitor's own shape."""


class Monitoring:
    """Holds the monitors; one that crashes is logged, and harms neither the others nor a prediction."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self.monitors = tuple(monitors)
        self._learning = threading.Lock()
        self._own = dict(self.tally(_no_records(self.monitors)))
        for monitor in self.monitors:
            monitor.totals = self._own.get(monitor.name)
        self._states: dict[str, tuple[State, str]] = {m.name: (m.state(), _now()) for m in self.monitors}

    @property
    def by_request(self) -> dict[str, Groups]:
        """The monitors whose groups come with the request, by attribute."""
        return {
            monitor.params.attribute: monitor
            for monitor in self.monitors
            if isinstance(monitor, Groups) and monitor.params.source.request is not None
        }

    def observe(self, batch: Batch, outcome: Outcome) -> None:
        """Show every monitor a batch."""
        for monitor in self.monitors:
            try:
                monitor.observe(batch, outcome)
            except Exception as crash:  # noqa: BLE001 - a third party's code
                LOG.error("monitor %s crashed: %s", monitor.name, type(crash).__name__)  # noqa: TRY400

    def groups_of(self, batch: Batch) -> dict[str, npt.NDArray[np.int64]]:
        """Tell each row's level code (n,) by every monitor that has groups."""
        return {m.name: m.group_of(batch).cpu().numpy() for m in self.monitors if isinstance(m, Groups)}

    def layouts(self, config: Config) -> dict[str, str]:
        """Give, by monitor that keeps a tally, a digest of what its places count: sums of others must not mix."""
        parameters = {m.name: m.model_dump(mode="json", exclude=DEPLOY_TIME) for m in config.monitors}
        return {
            monitor.name: _digest(
                parameters[monitor.name],
                self._own[monitor.name].shape,
                monitor.context.classes,
                [(column.name, column.kind, column.categories) for column in monitor.context.schema.columns],
            )
            for monitor in self.monitors
            if monitor.name in self._own
        }

    def tally(self, records: Records) -> Tallies:
        """Turn rows into the counts of every monitor that keeps any; one that crashes is left out."""
        tallies: dict[str, Counts] = {}
        for monitor in self.monitors:
            try:
                counts = monitor.tally(records)
            except Exception as crash:  # noqa: BLE001 - a third party's code
                LOG.error("monitor %s crashed: %s", monitor.name, type(crash).__name__)  # noqa: TRY400
                continue
            if counts is not None:
                tallies[monitor.name] = counts
        return tallies

    def learn(self, tallies: Tallies) -> None:
        """Add to what this process has counted itself."""
        with self._learning:  # the store's writer and feedback each have a thread
            for name, counts in tallies.items():
                self._own[name] += counts

    def report(self, totals: Mapping[str, Mapping[int, int]] | None = None) -> dict[str, Any]:
        """Give the state of every monitor, as ``/monitors`` answers it.

        ``totals`` are the store's, by monitor and place; without them, what this process has counted itself. Like
        everything that reads ``monitor.totals``, it is for the event loop's thread alone.
        """
        try:
            for monitor in self.monitors:
                if totals is not None and monitor.name in self._own:
                    monitor.totals = _filled(totals.get(monitor.name, {}), self._own[monitor.name].shape)
            reports = {monitor.name: self._report(monitor) for monitor in self.monitors}
        finally:
            for monitor in self.monitors:
                monitor.totals = self._own.get(monitor.name)
        return {"monitors": reports, "totals": "process" if totals is None else "store"}

    def _report(self, monitor: Monitor) -> dict[str, Any]:
        state = monitor.state()
        if state != self._states[monitor.name][0]:
            self._states[monitor.name] = (state, _now())
        return {
            "kind": monitor.kind,
            "state": state,
            "since": self._states[monitor.name][1],
            "statistics": [
                {
                    "name": statistic.name,
                    "value": statistic.value,
                    "interval": statistic.interval,
                    "n": statistic.n,
                    "labels": dict(statistic.labels),
                }
                for statistic in monitor.report()
            ],
        }


def _now() -> str:
    return dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")


def _digest(*parts: object) -> str:
    return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _filled(places: Mapping[int, int], shape: tuple[int, ...]) -> Counts:
    counts = np.zeros(shape, dtype=np.int64)
    counts.flat[list(places.keys())] = list(places.values())
    return counts


def _no_records(monitors: Sequence[Monitor]) -> Records:
    """Make records of no rows, whose tally shows which monitors keep one, and its shape."""
    classes = monitors[0].context.classes if monitors else ()
    none = np.zeros(0, dtype=np.int64)
    return Records(
        predicted=none if classes else none.astype(np.float64),
        action=none,
        confidence=none.astype(np.float64),
        groups={monitor.name: none for monitor in monitors if isinstance(monitor, Groups)},
    )
