"""Runs recorded rows through the pipeline and the monitors in order, and lists the alarms that the rows raise."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.bundle.batches import batches_of
from guards.bundle.bundle import Bundle
from guards.model.chunked_run import refusing
from guards.monitors.base import Monitor, State, Statistic
from guards.monitors.optional_methods import HasCounts, HasSnapshots
from guards.types import Batch, Result, Rows

__all__ = ["Alarm", "Replay", "Reported", "Trace", "replay"]


class Alarm(TypedDict):
    """An alarm: the row (from 0) that raised it, and its stream; None if the monitor does not count by stream."""

    monitor: str
    stream: str | None
    row: int


class Reported(TypedDict):
    """A monitor's state and figures after the last row."""

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
    """Reports made during a replay, by the monitor's name; ``rows[i]`` rows came before the reports number i."""

    rows: list[int] = field(default_factory=list)
    reports: dict[str, list[list[Statistic]]] = field(default_factory=dict)


class Watched:
    """A monitor that observes rows in order, and its alarms, each with the exact row that raised it.

    If a monitor can restore a snapshot, and counts its alarms or its rows, it observes many rows at once. If an alarm
    was raised among these rows, the snapshot is restored and the monitor observes the two halves in turn, until a
    single row is left. Any other monitor that may alarm observes one row at a time: its alarm may come and go within a
    batch, or its snapshot cannot be restored. Labels become known together with their rows.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.alarms: list[Alarm] = []
        counted = monitor.alarms()
        self._counts_alarms = counted is not None
        self._may_alarm = counted is None or bool(counted)
        self._raised = self._look()
        self._counting = monitor if isinstance(monitor, HasCounts) else None
        goes_back = isinstance(monitor, HasSnapshots) and bool(monitor.snapshot())
        self._goes_back = goes_back and (self._counts_alarms or self._counting is not None)

    def show(self, batch: Batch, outcome: Result, y: Tensor | None, start: int) -> None:
        """Let the monitor observe rows, with their labels y (n,) if known; the first row has the number ``start``."""
        if not self._may_alarm:
            self._observe(batch, outcome, y)
            return
        step = len(batch) if self._goes_back else 1
        for at in range(0, len(batch), step):
            rows = slice(at, at + step)
            self._search(batch[rows], outcome[rows], None if y is None else y[rows], start + at)

    def _search(self, batch: Batch, outcome: Result, y: Tensor | None, start: int) -> None:
        # A snapshot may consist of the arrays that the monitor counts in, so it is copied before the monitor counts on.
        saved: dict[str, npt.NDArray[np.generic]] = {}
        if len(batch) > 1 and isinstance(self.monitor, HasSnapshots):
            saved = {key: array.copy() for key, array in self.monitor.snapshot().items()}
        self._observe(batch, outcome, y)
        raised = self._look()
        if raised == self._raised:
            return
        if len(batch) > 1 and isinstance(self.monitor, HasSnapshots):
            self.monitor.restore(saved)
            if self._look() != self._raised:
                raise RuntimeError(
                    f"monitor {self.monitor.name}: with its own snapshot restored, it counts differently"
                )
            middle = len(batch) // 2
            for rows in (slice(middle), slice(middle, len(batch))):
                self._search(batch[rows], outcome[rows], None if y is None else y[rows], start + (rows.start or 0))
            return
        new = [stream for stream, count in raised.items() if count > self._raised.get(stream, 0)]
        self.alarms += [{"monitor": self.monitor.name, "stream": stream, "row": start} for stream in new]
        self._raised = raised

    def _observe(self, batch: Batch, outcome: Result, y: Tensor | None) -> None:
        with torch.inference_mode():
            self.monitor.observe(batch, outcome)
            if y is not None and self._counting is not None:
                self._counting.join(self._counting.records_of(batch, outcome, y))

    def _look(self) -> dict[str | None, int]:
        """Return the alarms so far by stream; if the monitor does not count alarms, 1 if its state is alarm, else 0."""
        counted = self.monitor.alarms()
        if counted is None:
            return {None: int(self.monitor.state() == "alarm")}
        return dict[str | None, int](counted.items())


def replay(
    bundle: Bundle, rows: Rows, *, samples: int = 0, advance: Callable[[int], object] = lambda _: None
) -> tuple[Replay, Trace]:
    """Run rows in order through the pipeline and the monitors, which must not have seen any rows.

    Returns the document of ``replay --json``, and about ``samples`` reports that were made on the way. ``advance`` is
    called after each chunk of rows, with the number of rows in the chunk.

    Raises:
        Mistake: the model raises an exception for the rows.
        RuntimeError: after a monitor restored its own snapshot, its alarms differ from before.
    """
    pipeline = bundle.pipeline()
    watched = [Watched(monitor) for monitor in bundle.monitors]
    trace = Trace(reports={monitor.name: [] for monitor in bundle.monitors})
    every = max(1, len(rows) // samples) if samples else len(rows)
    done = 0
    for chunk in batches_of(bundle, rows):
        with refusing(bundle.model, chunk.x):
            outcome = pipeline(chunk, causes=False)
        batch = Batch(chunk.x, chunk.groups, outcome.output, chunk.draws)
        for piece in _slices(len(batch), every):
            start, stop = done + piece.start, done + piece.stop
            for each in watched:
                each.show(batch[piece], outcome[piece], None if rows.y is None else rows.y[start:stop], start)
            if samples and (stop // every > start // every or stop == len(rows)):
                trace.rows.append(stop)
                for monitor in bundle.monitors:
                    trace.reports[monitor.name].append(monitor.report())
        advance(len(batch))
        done += len(batch)
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
    """Return None for a number that JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None
