"""What watches a stream of rows: it may warn, and never act."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor, nn

from guards.attributes import Grouping
from guards.detector import Params
from guards.recent import STAGES, Blocks, Stage, cut, windows_of
from guards.records import Records
from guards.schema import InputSchema
from guards.types import Batch, Outcome, Reference
from guards.work_client import Arrays, shared

__all__ = [
    "Arrays",
    "Context",
    "CountingMonitor",
    "Monitor",
    "MonitorParams",
    "Series",
    "State",
    "Statistic",
    "Work",
]

State = Literal["ok", "warning", "alarm", "insufficient_data"]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One figure with the interval it is known to, the rows ``n`` it rests on, and what it is a figure of."""

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    n: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """One sample for Prometheus: ``metric`` without the product's prefix; labels from closed sets alone."""

    metric: str
    kind: Literal["counter", "gauge"]
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Context:
    """What there is to watch: the rows' schema, the labels in logit order (none for regression), the guards.

    ``monitors`` are the parameters of all monitors of the config, for those that refer to one another by name;
    ``false_alarm_budget`` is the share of clean rows that the guards may touch.
    """

    schema: InputSchema
    classes: tuple[str, ...]
    guards: tuple[str, ...]
    monitors: tuple["MonitorParams", ...] = ()
    false_alarm_budget: float = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What is too slow for the thread that serves: a function of plain arrays, named so that any process can run it.

    ``function`` is ``module:name``; it takes ``task``, which is JSON, and ``arrays``, and gives arrays. ``python`` is
    the interpreter whose environment has what the function imports; None for this one.
    """

    function: str
    task: Mapping[str, Any]
    arrays: Arrays
    python: str | None = None

    def run(self) -> Arrays:
        """Do it now: here, or in a process of the interpreter that it needs.

        Raises:
            WorkFailedError: that process ended, or the function raised in it.
        """
        if self.python is not None:
            return shared(self.python).run(self.function, self.task, self.arrays)
        module, _, name = self.function.partition(":")
        result: Arrays = getattr(import_module(module), name)(self.task, self.arrays)
        return result


class MonitorParams(Params):
    """What every monitor has: a name, and a ``kind`` that its own parameters narrow to a literal."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    kind: str

    @property
    def keeps_reference_rows(self) -> bool:
        """Whether the fitted monitor holds rows of the reference, which a bundle may only if it is allowed to."""
        return False


class Monitor(nn.Module, ABC):
    """Watches a stream. Fitted state lives in buffers; live counts are plain arrays, and not part of a bundle.

    A subclass's constructor takes its parameters and the context, and raises ValueError where the former name
    something that the latter has not got, saying what is there.
    """

    Params: ClassVar[type[MonitorParams]]
    ordered: ClassVar[bool] = False
    """Whether the order of the rows matters to the figures."""
    notices: ClassVar[tuple[str, ...]] = ()
    """What whoever fits such a monitor has to be told."""
    deferred: bool = False
    """Whether somebody else does the slow work, by ``pending`` and ``settle``; otherwise ``observe`` does it itself."""
    grouping: Grouping | None = None
    """What tells each row's group, where the monitor asks for it: its name is the key in the records' groups."""

    def __init__(self, params: MonitorParams, context: Context) -> None:
        super().__init__()
        self.name, self.kind, self.context = params.name, params.kind, context

    def fit(self, reference: Reference, outcome: Outcome) -> Self:  # noqa: ARG002
        """Learn what the stream looks like on clean held-out rows, where there is anything to learn."""
        return self

    @abstractmethod
    def observe(self, batch: Batch, outcome: Outcome) -> None:
        """Take note of rows that were answered. Cheap; called once a micro-batch, from one thread."""

    @property
    def waiting(self) -> int:
        """Count the pieces of slow work that ``pending`` would give; asked once a micro-batch."""
        return 0

    def pending(self) -> Work | None:
        """Take the next piece of slow work; each is followed by ``settle``, from the same thread, before the next.

        That may be another thread than that of ``observe``. Work that nobody takes is bounded, counted and dropped.
        """
        return None

    def settle(self, result: Arrays | None) -> None:
        """Take note of what the work gave; None where it was lost."""

    @abstractmethod
    def report(self) -> list[Statistic]:
        """Say what was seen so far. May be called from another thread than ``observe``."""

    def state(self) -> State:
        """Judge the report; a monitor that only counts is always ``ok``."""
        return "ok"

    def cause(self) -> Statistic | None:
        """Name the statistic that the state rests on, for the log line at a change of state; none by default."""
        return None

    def series(self) -> list[Series]:
        """Give the counters and gauges that Prometheus adds up over replicas; all of them from the start.

        A counter never falls. One that a snapshot restores goes on from there: whoever exports it subtracts that.
        """
        return []

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        """Give the live state that a restart must not lose; none by default."""
        return {}

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go on from a snapshot that a monitor of the same bundle gave.

        Raises:
            ValueError: it is not such a snapshot.
        """


class CountingMonitor(Monitor):
    """A monitor of which everything is a function of the sum of its tallies.

    ``counts`` are those of this process since its start, which Prometheus adds up over replicas. Report, state and
    cause are made of ``totals``: the same array, until a server puts a copy or the sum over all processes in its place;
    and of ``windows`` of recent counts, None until a server sets them likewise. So a server asks for them while another
    thread counts.
    """

    alarms: bool = True
    """Whether its parameters let it alarm at all."""

    def __init__(self, params: MonitorParams, context: Context, size: int) -> None:
        super().__init__(params, context)
        self.counts: npt.NDArray[np.int64] = np.zeros(size, dtype=np.int64)
        self.totals = self.counts
        self.windows: Sequence[npt.NDArray[np.int64]] | None = None
        self.blocks: Mapping[Stage, Blocks] = {stage: Blocks() for stage in STAGES}
        self._alarmed = self._alarmed_recently = False

    @abstractmethod
    def tally(self, records: Records) -> npt.NDArray[np.int64]:
        """Turn answered rows into counts (size,), which add up over batches, replicas and restarts.

        Called once with the rows of a batch as they are answered, and for those whose truth comes to be known once
        more with ``actual``: what was counted the first time must not be counted again.
        """

    def observe(self, batch: Batch, outcome: Outcome) -> None:
        """Count every row once."""
        self.join(self.records_of(batch, outcome))

    def join(self, records: Records) -> None:
        """Count every row or, with ``actual``, every outcome once."""
        stage: Stage = "answers" if records.actual is None else "outcomes"
        for part in cut(len(records), self.blocks[stage].room):
            some = records.take(part)
            self.add(stage, len(some), self.tally(some))

    def add(self, stage: Stage, rows: int, counts: npt.NDArray[np.int64]) -> None:
        """Add what :meth:`tally` gave of so many rows."""
        self.counts += counts
        self.blocks[stage].add(rows, counts)

    def recent(self) -> Sequence[npt.NDArray[np.int64]]:
        """Give the counts (size,) of the last rows, in windows of more and more blocks; see :mod:`guards.recent`."""
        if self.windows is not None:
            return self.windows
        return windows_of({stage: blocks.counts for stage, blocks in self.blocks.items()}, self.counts.size)

    def aside(self, totals: npt.NDArray[np.int64]) -> Self:
        """Make a copy that judges other totals, without recent counts; this monitor stays as it is."""
        other = copy(self)
        other.totals, other.windows = totals, ()
        other._alarmed = other._alarmed_recently = False  # noqa: SLF001 - of its own class
        return other

    def records_of(self, batch: Batch, outcome: Outcome, y: Tensor | None = None) -> Records:
        """Note what this monitor counts of a batch, with the truth ``y`` (n,) where it is known already."""
        return Records.of(batch, outcome, () if self.grouping is None else (self.grouping,), y=y)

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        """Give the counts; where there is a store, it is that which a restart goes on from."""
        blocks = {stage: each.snapshot(self.counts.size) for stage, each in self.blocks.items()}
        return {
            "counts": self.counts.copy(),
            "alarmed": np.array([self._alarmed, self._alarmed_recently]),
            **{f"{stage}.rows": rows for stage, (rows, _) in blocks.items()},
            **{f"{stage}.counts": counts for stage, (_, counts) in blocks.items()},
        }

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go on from counts.

        Raises:
            ValueError: it is not a snapshot of this monitor.
        """
        own = self.snapshot()
        same = state.keys() == own.keys() and all(state[key].shape == own[key].shape for key in ("counts", "alarmed"))
        if not same or any(state[name].shape[1:] != own[name].shape[1:] for name in own):
            raise ValueError(f"a snapshot has {sorted(own)}, and `counts` of shape {self.counts.shape}")
        self.counts[:] = state["counts"]
        self._alarmed, self._alarmed_recently = map(bool, state["alarmed"])
        for stage, blocks in self.blocks.items():
            blocks.restore(*(state[f"{stage}.{name}"].astype(np.int64) for name in ("rows", "counts")))
