"""Rows of the past through pipeline and monitors, in order: when and what would have alarmed."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypedDict

import torch
from torch import Tensor

from guards.bundle import Bundle
from guards.monitor import CountingMonitor, Monitor, State, Statistic
from guards.monitors.groups import level_codes, of_requests
from guards.run_model import CHUNK, refusing
from guards.types import Batch, Outcome, Rows

__all__ = ["ALARMS", "Alarm", "Replay", "Reported", "Trace", "replay"]

ALARMS = "drift_alarms_total"
"""The counter, by ``stream``, in which a monitor counts the alarms that it raised."""


class Alarm(TypedDict):
    """An alarm, the row (from 0) at which it was raised, and the stream where the monitor tells streams apart."""

    monitor: str
    stream: str | None
    row: int


class Reported(TypedDict):
    """What a monitor has to say after the last row."""

    kind: str
    state: State
    statistics: list[dict[str, object]]


class Replay(TypedDict):
    """The JSON document of ``replay --json``."""

    rows: int
    alarms: list[Alarm]
    monitors: dict[str, Reported]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The monitors' reports on the way, by the monitor's name; ``rows`` says after how many rows each was made."""

    rows: list[int] = field(default_factory=list)
    reports: dict[str, list[list[Statistic]]] = field(default_factory=dict)


class Watched:
    """A monitor that is shown rows in order, and the alarms that it raised, each at the very row.

    A monitor that counts its alarms, or of which all is a function of counts, and that gives snapshots is shown many
    rows at once; where it alarmed in them, it is taken back and shown halves of them, until a single row is left. Any
    other that may alarm is shown one row at a time: its state may come and go within a batch, or it could not be taken
    back. Labels are known with their rows.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.alarms: list[Alarm] = []
        self._counts = any(series.metric == ALARMS for series in monitor.series())
        self._raised = self._look()
        may = not isinstance(monitor, CountingMonitor) or monitor.alarms
        self._alarms_ever = self._counts or (may and type(monitor).state is not Monitor.state)
        self._goes_back = (self._counts or isinstance(monitor, CountingMonitor)) and bool(monitor.snapshot())

    def show(self, batch: Batch, outcome: Outcome, y: Tensor | None, start: int) -> None:
        """Show rows, and their labels where there are any; the first is the stream's row ``start``."""
        if not self._alarms_ever:
            self._observe(batch, outcome, y)
            return
        step = len(batch) if self._goes_back else 1
        for at in range(0, len(batch), step):
            rows = slice(at, at + step)
            self._search(batch[rows], outcome[rows], None if y is None else y[rows], start + at)

    def _search(self, batch: Batch, outcome: Outcome, y: Tensor | None, start: int) -> None:
        # A snapshot may be the monitor's own arrays, which it goes on to count in.
        saved = {key: array.copy() for key, array in self.monitor.snapshot().items()} if len(batch) > 1 else {}
        self._observe(batch, outcome, y)
        raised = self._look()
        if raised == self._raised:
            return
        if len(batch) > 1:
            self.monitor.restore(saved)
            if self._look() != self._raised:
                raise RuntimeError(f"monitor {self.monitor.name}: taken back to its own snapshot, it counts otherwise")
            middle = len(batch) // 2
            for rows in (slice(middle), slice(middle, len(batch))):
                self._search(batch[rows], outcome[rows], None if y is None else y[rows], start + (rows.start or 0))
            return
        new = [stream for stream, count in raised.items() if count > self._raised.get(stream, 0)]
        self.alarms += [{"monitor": self.monitor.name, "stream": stream, "row": start} for stream in new]
        self._raised = raised

    def _observe(self, batch: Batch, outcome: Outcome, y: Tensor | None) -> None:
        with torch.inference_mode():
            self.monitor.observe(batch, outcome)
            if y is not None and isinstance(self.monitor, CountingMonitor):
                self.monitor.join(self.monitor.records_of(batch, outcome, y))

    def _look(self) -> dict[str | None, float]:
        """Count the alarms so far by stream; of a monitor without such counters, say whether it is in alarm."""
        if not self._counts:
            return {None: float(self.monitor.state() == "alarm")}
        return {s.labels.get("stream"): s.value for s in self.monitor.series() if s.metric == ALARMS}


def replay(
    bundle: Bundle, rows: Rows, *, samples: int = 0, advance: Callable[[int], object] = lambda _: None
) -> tuple[Replay, Trace]:
    """Run rows in order through pipeline and monitors, which must not have seen any; ``advance`` is told of each lot.

    ``samples`` is about how many reports to keep on the way.
    """
    pipeline, device = bundle.pipeline(), bundle.model.device
    by_request = of_requests(bundle.monitors)
    watched = [Watched(monitor) for monitor in bundle.monitors]
    trace = Trace(reports={monitor.name: [] for monitor in bundle.monitors})
    every = max(1, len(rows) // samples) if samples else len(rows)
    codes = level_codes(by_request, len(rows), rows.groups)
    for chunk in _slices(len(rows), CHUNK):
        groups = {name: values[chunk].to(device) for name, values in codes.items()}
        batch = Batch(rows.x[chunk].to(device), groups)
        with refusing(bundle.model, batch.x):
            outcome = pipeline(batch, causes=False)
        batch = Batch(batch.x, groups, outcome.output)
        for piece in _slices(len(batch), every):
            start, stop = chunk.start + piece.start, chunk.start + piece.stop
            for each in watched:
                each.show(batch[piece], outcome[piece], None if rows.y is None else rows.y[start:stop], start)
            if samples and (stop // every > start // every or stop == len(rows)):
                trace.rows.append(stop)
                for monitor in bundle.monitors:
                    trace.reports[monitor.name].append(monitor.report())
        advance(len(batch))
    alarms = sorted((alarm for each in watched for alarm in each.alarms), key=lambda alarm: alarm["row"])
    return {"rows": len(rows), "alarms": alarms, "monitors": {m.name: _reported(m) for m in bundle.monitors}}, trace


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, stop) for start, stop in pairwise([*range(0, rows, size), rows]))


def _reported(monitor: Monitor) -> Reported:
    return {
        "kind": monitor.kind,
        "state": monitor.state(),
        "statistics": [
            {
                "name": statistic.name,
                "value": _finite(statistic.value),
                "interval": None if statistic.interval is None else [_finite(end) for end in statistic.interval],
                "n": statistic.n,
                "labels": dict(statistic.labels),
            }
            for statistic in monitor.report()
        ],
    }


def _finite(value: float | None) -> float | None:
    """JSON has no other numbers."""
    return value if value is not None and math.isfinite(value) else None
