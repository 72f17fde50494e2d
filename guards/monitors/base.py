"""The base classes of monitors. A monitor watches a stream of rows and may raise an alarm, but never changes a row."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor, nn

from guards.input.schema import InputSchema
from guards.monitors.answered_rows import Records
from guards.monitors.groupings import Grouping
from guards.monitors.teachers import TeacherParams
from guards.statistics.recent_blocks import STAGES, Blocks, Stage, cut, windows_of
from guards.types import Batch, Reference, Result

__all__ = [
    "Context",
    "CountingMonitor",
    "Monitor",
    "MonitorParams",
    "Series",
    "State",
    "Statistic",
]

State = Literal["ok", "warning", "alarm", "insufficient_data"]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One figure with its confidence interval and the number ``n`` of its rows; ``labels`` say what it describes.

    ``value`` is None if there are too few rows for the figure.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    n: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """One sample for Prometheus: ``metric`` has no product prefix, and label values come from closed sets."""

    metric: str
    kind: Literal["counter", "gauge"]
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Context:
    """What a monitor watches: rows of ``schema``, labels ``classes`` in logit order, and the verdicts of ``guards``.

    ``classes`` is empty for a regression. ``monitors`` are the parameters of all monitors of the config, because a
    monitor may refer to another monitor. ``false_alarm_budget`` is the share of clean rows that the guards may flag,
    and None if no guard shares the budget.
    """

    schema: InputSchema
    classes: tuple[str, ...]
    guards: tuple[str, ...]
    monitors: tuple["MonitorParams", ...] = ()
    false_alarm_budget: float | None = 0.01


class MonitorParams(TeacherParams):
    """The parameters of every monitor: a name, whom it trusts, and a ``kind`` that a subclass narrows to a literal."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="the monitor's name in reports, metrics and logs")
    kind: str

    @property
    def keeps_reference_rows(self) -> bool:
        """Whether the fitted monitor holds rows of the reference; the config must then set `store_reference_rows`."""
        return False


class Monitor(nn.Module, ABC):
    """Watches a stream of rows. Fitted state lives in buffers; live counts are plain arrays, which no bundle holds.

    A monitor may have more methods: for Prometheus, for restarts, for slow work, and for counts that can be added over
    servers. See :mod:`guards.monitors.optional_methods`.
    """

    Params: ClassVar[type[MonitorParams]]
    ordered: ClassVar[bool] = False
    """Whether the figures depend on the order of the rows."""
    notices: tuple[str, ...] = ()
    """Warnings that are shown when the monitor has been fitted."""

    def __init__(self, params: MonitorParams, context: Context) -> None:
        """Take the parameters and the context; the constructor of a subclass takes the same two arguments.

        Raises:
            ValueError: ``params`` name something that the context does not have; the message lists what it has.
        """
        super().__init__()
        self.name, self.kind, self.context = params.name, params.kind, context

    def fit(self, reference: Reference, outcome: Result) -> Self:  # noqa: ARG002
        """Learn the usual stream from clean held-out rows, and from the pipeline's result for these rows.

        Raises:
            ValueError: the reference cannot support this monitor; the message says what the monitor needs.
        """
        return self

    @abstractmethod
    def observe(self, batch: Batch, outcome: Result) -> None:
        """Count answered rows. The engine calls this method once for each micro-batch, from one thread: be quick."""

    @abstractmethod
    def report(self) -> list[Statistic]:
        """Give the figures of all rows observed so far. Another thread than the thread of ``observe`` may call this."""

    def state(self) -> State:
        """Judge the report; a monitor that only counts is always ``ok``."""
        return "ok"

    def alarms(self) -> Mapping[str, int] | None:
        """Give the number of alarms so far by stream. Every stream has an entry from the start, and no count falls.

        None means that the monitor does not count its alarms, and that only its state shows an alarm. An empty mapping
        means that the monitor never raises an alarm.
        """
        return {} if type(self).state is Monitor.state else None


class CountingMonitor(Monitor):
    """A monitor whose figures are a function of the sum of its tallies.

    ``counts`` are the counts of this process since its start, which Prometheus adds up over replicas. Report, state and
    cause are computed from ``totals`` and from the :meth:`recent` windows. Both come from the counts of this process,
    until a server calls :meth:`judge_by` with copies of these counts, or with the sums over all processes. So a server
    can ask for a report while another thread counts.
    """

    may_alarm: bool = True
    """Whether the parameters allow the monitor to raise an alarm."""
    grouping: Grouping | None = None
    """Finds each row's group, if the monitor needs groups; the grouping's name is the key in ``Records.groups``."""

    def __init__(self, params: MonitorParams, context: Context, size: int) -> None:
        super().__init__(params, context)
        self.counts: npt.NDArray[np.int64] = np.zeros(size, dtype=np.int64)
        self.totals = self.counts
        self._windows_given: Sequence[npt.NDArray[np.int64]] | None = None
        self.blocks: Mapping[Stage, Blocks] = {stage: Blocks() for stage in STAGES}
        self._alarmed = self._alarmed_recently = False

    @abstractmethod
    def tally(self, records: Records) -> npt.NDArray[np.int64]:
        """Turn answered rows into counts (size,), which add up over batches, replicas and restarts.

        The method is called with the rows of a batch when they are answered, without ``actual``. If the outcomes of
        some rows become known, the method is called again with these rows and ``actual``. The second call must not
        count again what the first call counted.
        """

    def observe(self, batch: Batch, outcome: Result) -> None:
        """Count every row once."""
        self.join(self.records_of(batch, outcome))

    def join(self, records: Records) -> None:
        """Count every row or, with ``actual``, every outcome once."""
        stage: Stage = "answers" if records.actual is None else "outcomes"
        for part in cut(len(records), self.blocks[stage].room):
            some = records if part == slice(0, len(records)) else records.take(part)
            self.add(stage, len(some), self.tally(some))

    def add(self, stage: Stage, rows: int, counts: npt.NDArray[np.int64]) -> None:
        """Add the counts (size,) that :meth:`tally` returned for ``rows`` rows."""
        self.counts += counts
        self.blocks[stage].add(rows, counts)

    def recent(self) -> Sequence[npt.NDArray[np.int64]]:
        """Give the counts (size,) of windows, the shortest first: see :mod:`guards.statistics.recent_blocks`."""
        if self._windows_given is not None:
            return self._windows_given
        return windows_of({stage: blocks.counts for stage, blocks in self.blocks.items()}, self.counts.size)

    def aside(self, totals: npt.NDArray[np.int64]) -> Self:
        """Make a copy that judges other totals, without recent counts; this monitor does not change."""
        other = copy(self)
        other.judge_by(totals, ())
        other._alarmed = other._alarmed_recently = False  # noqa: SLF001 - an object of the same class
        return other

    def judge_by(self, totals: npt.NDArray[np.int64], windows: Sequence[npt.NDArray[np.int64]]) -> None:
        """Report and judge these ``totals`` (size,) and windows from now on, in place of this process's counts."""
        self.totals, self._windows_given = totals, windows

    def forget(self) -> None:
        """Forget every row, and end the alarm."""
        self.counts[:] = 0
        self.blocks = {stage: Blocks() for stage in STAGES}
        self._alarmed = self._alarmed_recently = False

    def alarms(self) -> Mapping[str, int] | None:
        """Give None, because only the state shows an alarm; empty if the parameters allow no alarm."""
        return None if self.may_alarm else {}

    def records_of(self, batch: Batch, outcome: Result, y: Tensor | None = None) -> Records:
        """Make the records that this monitor counts from a batch, with the labels or values ``y`` (n,) if known."""
        return Records.of(batch, outcome, () if self.grouping is None else (self.grouping,), y=y)

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        """Give the counts. A server with a store does not restore them: it starts from the store's totals instead."""
        blocks = {stage: each.snapshot(self.counts.size) for stage, each in self.blocks.items()}
        return {
            "counts": self.counts.copy(),
            "alarmed": np.array([self._alarmed, self._alarmed_recently]),
            **{f"{stage}.rows": rows for stage, (rows, _) in blocks.items()},
            **{f"{stage}.counts": counts for stage, (_, counts) in blocks.items()},
        }

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Continue from the counts of a snapshot.

        Raises:
            ValueError: ``state`` is not a snapshot of this monitor.
        """
        own = self.snapshot()
        same = state.keys() == own.keys() and all(state[key].shape == own[key].shape for key in ("counts", "alarmed"))
        if not same or any(state[name].shape[1:] != own[name].shape[1:] for name in own):
            raise ValueError(f"a snapshot has {sorted(own)}, and `counts` of shape {self.counts.shape}")
        self.counts[:] = state["counts"]
        self._alarmed, self._alarmed_recently = map(bool, state["alarmed"])
        for stage, blocks in self.blocks.items():
            blocks.restore(*(state[f"{stage}.{name}"].astype(np.int64) for name in ("rows", "counts")))
