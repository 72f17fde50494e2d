"""Optional methods of a monitor, beside ``observe``, ``report``, ``state`` and ``alarms``, as protocols.

A monitor that has the methods of a protocol implements the protocol, and need not name it as a base class. A server
checks with ``isinstance``.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from guards.monitors.answered_rows import Records
from guards.monitors.base import Context, Series, State, Statistic
from guards.monitors.groupings import Grouping
from guards.monitors.slow_work.work import Arrays, Work
from guards.statistics.recent_blocks import Blocks, Stage
from guards.types import Batch, Result

__all__ = ["HasCause", "HasCounts", "HasSeries", "HasSlowWork", "HasSnapshots", "series_of"]

Counts = npt.NDArray[np.int64]


@runtime_checkable
class HasSeries(Protocol):
    """A monitor with counters and gauges for Prometheus."""

    def series(self) -> list[Series]:
        """Give the counters and gauges, which Prometheus adds up over replicas; every series exists from the start.

        A counter never falls. A counter that was restored from a snapshot continues from the snapshot's value, and the
        exporter subtracts that value.
        """


@runtime_checkable
class HasCause(Protocol):
    """A monitor that can name the cause of its state."""

    def cause(self) -> Statistic | None:
        """Give the statistic that decided the state, for the log line at a change of state."""


@runtime_checkable
class HasSnapshots(Protocol):
    """A monitor with live state that a restart must not lose."""

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        """Give the live state as arrays of numbers, which may be the monitor's own arrays; empty for no snapshot."""

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Continue from a snapshot of the same monitor of the same bundle.

        Raises:
            ValueError: ``state`` is not such a snapshot.
        """


@runtime_checkable
class HasSlowWork(Protocol):
    """A monitor whose slow work another process can do: see :class:`guards.monitors.slow_monitor.SlowMonitor`."""

    name: str

    @property
    def waiting(self) -> int:
        """The number of pieces of work that wait."""

    def defer(self) -> None:
        """Leave the slow work to the caller."""

    def pending(self) -> Work | None:
        """Take the next piece of work."""

    def settle(self, result: Arrays | None) -> None:
        """Take the result of a piece of work; None if the piece was lost."""


@runtime_checkable
class HasCounts(Protocol):
    """A monitor whose figures are a function of counts that can be added: see ``CountingMonitor`` in ``base``."""

    name: str
    kind: str
    context: Context
    counts: Counts
    """The counts of this process since its start."""
    blocks: Mapping[Stage, Blocks]
    """The latest counts, by stage, in blocks of a fixed number of rows."""
    grouping: Grouping | None
    """Finds each row's group, if the monitor needs groups; the grouping's name is the key in ``Records.groups``."""

    def tally(self, records: Records) -> Counts:
        """Turn answered rows into counts."""

    def add(self, stage: Stage, rows: int, counts: Counts) -> None:
        """Add the counts of ``rows`` rows."""

    def forget(self) -> None:
        """Forget every row, and end the alarm."""

    def join(self, records: Records) -> None:
        """Count every row or, with ``actual``, every outcome once."""

    def records_of(self, batch: Batch, outcome: Result, y: Tensor | None = None) -> Records:
        """Make the records that the monitor counts from a batch."""

    def judge_by(self, totals: Counts, windows: Sequence[Counts]) -> None:
        """Judge these totals and windows from now on, in place of this process's counts."""

    def aside(self, totals: Counts) -> Self:
        """Make a copy that judges other totals."""

    def report(self) -> list[Statistic]:
        """Give the figures of the totals."""

    def state(self) -> State:
        """Judge the totals."""


def series_of(monitor: object) -> list[Series]:
    """Give a monitor's series; none if it has none."""
    return monitor.series() if isinstance(monitor, HasSeries) else []
