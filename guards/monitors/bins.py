"""Counts the rows of every stream by the reference's bins; figures of drift are computed from these counts."""

from typing import ClassVar, Literal, Self

import numpy as np

from guards.monitors.base import Context, Monitor, MonitorParams, Series, Statistic
from guards.monitors.streams import StreamParams, Streams
from guards.types import Batch, Reference, Result

__all__ = ["Bins", "BinsParams"]


class BinsParams(StreamParams):
    """Parameters of the bins monitor."""

    kind: Literal["bins"] = "bins"


class Bins(Monitor):
    """Counts rows by stream and bin."""

    Params: ClassVar[type[MonitorParams]] = BinsParams

    def __init__(self, params: BinsParams, context: Context) -> None:
        super().__init__(params, context)
        self.params = params
        self.streams = Streams(params, context)
        self.counts = np.zeros(self.streams.size, dtype=np.int64)

    def fit(self, reference: Reference, outcome: Result) -> Self:
        """Set the bins' edges at the reference's quantiles, and count the reference into them."""
        self.streams.fit(reference, outcome)
        return self

    def observe(self, batch: Batch, outcome: Result) -> None:
        """Count every row once in every stream."""
        self.counts += self.streams.count(batch, outcome).cpu().numpy()

    def report(self) -> list[Statistic]:
        """Give the number of rows of each stream; Prometheus computes drift from the counters of all replicas."""
        rows = int(self.counts[: len(next(iter(self.streams.bins.values())))].sum())
        return [Statistic("rows", float(rows), None, rows, {"stream": name}) for name in self.streams.bins]

    def series(self) -> list[Series]:
        """Give ``stream_bin_total`` and ``reference_bin_ratio`` for every stream and bin."""
        return self.streams.series(self.counts)
