"""Detects drift of any stream at a stated rate of false alarms, by e-detectors on the bins of the reference."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from guards.monitors.base import Context, Monitor, MonitorParams, Series, State, Statistic
from guards.monitors.clean_rows import Include, included
from guards.monitors.sequential_snapshot import check_snapshot
from guards.monitors.streams import StreamParams, Streams
from guards.statistics.bets import Bets
from guards.statistics.e_values import discoveries, e_bh_statistic, population_stability
from guards.types import Batch, Reference, Result

__all__ = ["Sequential", "SequentialParams"]

WARNING = 0.1
"""The evidence for a warning, as a share of the evidence for an alarm: by chance a warning is ten times as frequent."""
QUIET_ROWS = 1000
"""An alarm or a warning ends once the evidence has stayed below the warning's level for so many rows."""
ERROR = 0.1
"""During an alarm a stream is named as drifted if e-BH finds it at this error rate over the epochs so far."""
WINDOW_ROWS = 10_000
"""The stability index covers between one and two times so many recent rows: at two times, the counts are halved."""
CAP = 100.0
"""The evidence may not exceed the alarm's level by more than this factor, so that an alarm can end."""
ENOUGH_ROWS = 100
COUNTS_AT_ONCE = 1 << 16
"""Several epochs are judged at once, as long as their counts are no more numbers than this."""
CLOCK = ("seen", "counted", "pending", "epochs", "quiet", "alarm")


class SequentialParams(StreamParams):
    """Parameters of the sequential monitor."""

    kind: Literal["sequential"] = "sequential"
    average_run_length: int = Field(
        default=100_000, ge=100, le=10**12, description="rows from one false alarm to the next, on average, at least"
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="how far a stream may move without drift, in standard deviations; 0.3 is a PSI of about 0.1",
    )
    include: Include = "all"
    epoch: int = Field(default=16, ge=1, le=4096, description="number of rows after which the evidence is updated")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.average_run_length < self.epoch:
            raise ValueError(f"average_run_length is below the {self.epoch} rows of an epoch")
        return self


class Sequential(Monitor):
    """Bets on every stream, in Shiryaev-Roberts form: R = (R + 1) e after every epoch of a fixed number of rows.

    R is the sum of the e-processes that start with each epoch, and is an e-detector: its expectation at any stopping
    time is at most the number of epochs, whatever the dependence between bets and streams. The mean over a stream's
    bets, the mean over streams, and the e-BH statistic, which is at most that mean, are e-detectors too. The alarm is
    raised once the e-BH statistic reaches the average run length in epochs. So the average run length holds, with
    probability 0.95 over references. On the reference's own frequencies every bet loses at least a thousandth of a nat
    per row, so that R stays below the number of epochs in about a thousand rows. So R cannot reach the threshold by the
    mere number of rows. If a bet neither won nor lost, R would reach the threshold after exactly the run length.
    """

    Params: ClassVar[type[MonitorParams]] = SequentialParams
    ordered: ClassVar[bool] = True
    reference_counts: Tensor

    def __init__(self, params: SequentialParams, context: Context) -> None:
        super().__init__(params, context)
        self.params = params
        self.streams = Streams(params, context)
        self.names = tuple(self.streams.bins)
        self._offsets = self.streams.offsets.numpy()
        self.register_buffer("reference_counts", torch.zeros(self.streams.size, dtype=torch.int64))
        self._bets = Bets([len(bins) for bins in self.streams.bins.values()], ordered=len(self.streams.continuous))
        self._calibrated: Tensor | None = None
        self.threshold = params.average_run_length / params.epoch
        size, streams = self.streams.size, len(self.names)
        self.counts = np.zeros(size, dtype=np.int64)
        self.evidence = np.zeros(self._bets.count, dtype=np.float32)
        self.unjudged = np.zeros(size, dtype=np.uint16)
        self.window = np.zeros(size, dtype=np.uint16)
        self.alarm_counts = np.zeros(streams, dtype=np.int64)
        self.drifted = np.zeros(streams, dtype=np.bool_)
        self.clock = dict.fromkeys(CLOCK, 0) | {"quiet": QUIET_ROWS}

    def fit(self, reference: Reference, outcome: Result) -> Self:
        """Set the bins' edges at the reference's quantiles, and count the reference into them."""
        self.streams.fit(reference, outcome)
        self.reference_counts = self.streams.reference(reference.batch, outcome, included(outcome, self.params.include))
        return self

    def observe(self, batch: Batch, outcome: Result) -> None:
        """Count every row once in every stream, and judge each epoch that is complete."""
        places = self.streams.places(batch, outcome).cpu().numpy()
        self.clock["seen"] += places.shape[1]
        if self.params.include == "clean":
            clean = included(outcome, "clean").cpu().numpy()
            self.counts += self._count(places[:, ~clean])
            places = places[:, clean]
        at_once = self.params.epoch * max(1, COUNTS_AT_ONCE // self.streams.size)
        for start in range(0, places.shape[1], at_once):
            self._count_epochs(places[:, start : start + at_once])

    def _count_epochs(self, places: npt.NDArray[np.int64]) -> None:
        """Count rows (streams, n) epoch by epoch, and judge the epochs that are complete."""
        epoch, pending, size = self.params.epoch, self.clock["pending"], self.streams.size
        complete, left = divmod(pending + places.shape[1], epoch)
        self.clock["pending"] = left
        if not complete:
            counted = self._count(places)
            self.counts += counted
            self.unjudged += counted.astype(np.uint16)
            return
        epochs = (pending + np.arange(places.shape[1])) // epoch
        counts = np.bincount((places + size * epochs).ravel(), minlength=(complete + 1) * size).reshape(-1, size)
        self.counts += counts.sum(0)
        counts[0] += self.unjudged
        self.unjudged[:] = counts[complete]
        self.judge(counts[:complete])

    def _count(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.bincount(places.ravel(), minlength=self.streams.size)

    def judge(self, counts: npt.NDArray[np.int64]) -> None:
        """Update the evidence by the counts of one epoch (bins of all streams,), or of epochs in order (epochs, bins).

        The counts are those of one replica, or sums over replicas.
        """
        self._calibrate()
        each = counts.reshape(-1, self.streams.size)
        won = np.exp(np.minimum(self._bets.log_e_values(each), 600.0))
        self._remember(each)
        judged, cap = 0, CAP * self.threshold * self._bets.count
        while judged < len(won):
            evidence = self._bets.accumulate(self.evidence, won[judged:], cap)
            by_stream = self._bets.by_stream(evidence)
            self.evidence[:] = evidence[-1]
            for streams, statistic in zip(by_stream, e_bh_statistic(by_stream).tolist(), strict=True):
                judged += 1
                if self._conclude(streams, statistic):  # the evidence starts anew, and so for the next epochs
                    break

    def _remember(self, counts: npt.NDArray[np.int64]) -> None:
        """Add the counts (epochs, bins) to the recent rows. If there are too many recent rows, halve their counts."""
        first = slice(0, self._bets.sizes[0])  # every stream counts every row
        if len(counts) > 1 and self.window[first].sum() + counts[:, first].sum() < 2 * WINDOW_ROWS:
            counts = counts.sum(0, keepdims=True)
        for some in counts:
            self.window += some.astype(np.uint16)
            if self.window[first].sum() >= 2 * WINDOW_ROWS:
                self.window //= 2

    def _conclude(self, by_stream: npt.NDArray[np.float64], statistic: float) -> bool:
        """Raise or end an alarm by the evidence of streams after an epoch; return whether an alarm has ended."""
        clock, epoch = self.clock, self.params.epoch
        clock["counted"], clock["epochs"] = clock["counted"] + epoch, clock["epochs"] + 1
        clock["quiet"] = 0 if statistic >= WARNING * self.threshold else min(QUIET_ROWS, clock["quiet"] + epoch)
        if statistic >= self.threshold:
            clock["alarm"] = 1
        if clock["alarm"]:
            named = discoveries(by_stream, min(self.threshold, clock["epochs"] / ERROR)) & ~self.drifted
            self.alarm_counts += named
            self.drifted |= named
            if clock["quiet"] == QUIET_ROWS:
                self.drifted[:], self.evidence[:], clock["alarm"], clock["epochs"] = False, 0.0, 0, 0
                return True
        return False

    def _calibrate(self) -> None:
        """Set the bets once the reference is known: ``fit`` counts it, or a bundle's buffers hold its counts."""
        if self._calibrated is not self.reference_counts:
            self._bets.calibrate(self.reference_counts.cpu().numpy(), self.params.tolerance)
            self._calibrated = self.reference_counts

    def state(self) -> State:
        """Alarm while streams are drifted, and warn while the evidence is above the warning's level."""
        if self.clock["alarm"]:
            return "alarm"
        if self.clock["counted"] < max(ENOUGH_ROWS, self.params.epoch):
            return "insufficient_data"
        return "warning" if self.clock["quiet"] < QUIET_ROWS else "ok"

    def alarms(self) -> Mapping[str, int]:
        """Count the alarms of each stream."""
        return dict(zip(self.names, self.alarm_counts.tolist(), strict=True))

    def _log_evidence(self) -> list[float]:
        logs: list[float] = np.log(np.maximum(self._bets.by_stream(self.evidence), 1.0)).tolist()
        return logs

    def report(self) -> list[Statistic]:
        """Give each stream's log e-value, whether it has drifted, and its stability index; and the alarm's threshold.

        The index has no value while there are too few rows, in all or for the stream's bins.

        ``threshold`` is the log e-value at which one stream alone raises an alarm; j streams together raise an alarm if
        each has a log e-value of ``threshold`` - log(j).
        """
        counted, drifted = self.clock["counted"], self.drifted.tolist()
        alone = math.log(self.threshold * len(self.names))
        statistics = [Statistic("threshold", alone, None, counted)]
        reference, window = self.reference_counts.cpu().numpy(), self.window.astype(np.int64)
        ends = [*self._offsets[1:].tolist(), self.streams.size]
        logs, always = self._log_evidence(), self.streams.special
        for i, (name, start, end) in enumerate(zip(self.names, self._offsets.tolist(), ends, strict=True)):
            was, now = reference[start:end], window[start:end]
            n, labels = int(now.sum()), {"stream": name}
            found = population_stability(was, now, always[start:end]) if n >= ENOUGH_ROWS else None
            value, interval = (None, None) if found is None else found
            statistics += [
                Statistic("evidence", logs[i], None, counted, labels),
                Statistic("drifted", float(drifted[i]), None, counted, labels),
                Statistic("psi", value, interval, n, labels),
            ]
        return statistics

    def series(self) -> list[Series]:
        """Give the streams' bins (of all rows, even if ``include`` is clean), and each stream's evidence and alarms."""
        own = []
        for name, evidence, alarms in zip(self.names, self._log_evidence(), self.alarm_counts.tolist(), strict=True):
            labels = {"monitor": self.name, "stream": name}
            own.append(Series("drift_evidence", "gauge", labels, evidence))
            own.append(Series("drift_alarms_total", "counter", labels, float(alarms)))
        return [*self.streams.series(self.counts), *own]

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        """Give all counts and the evidence, with the reference and the tolerance that the evidence belongs to."""
        return {
            "counts": self.counts.copy(),
            "evidence": self.evidence.copy(),
            "unjudged": self.unjudged.copy(),
            "window": self.window.copy(),
            "alarms": self.alarm_counts.copy(),
            "drifted": self.drifted.copy(),
            "clock": np.array([self.clock[name] for name in CLOCK], dtype=np.int64),
            "reference": self.reference_counts.cpu().numpy().copy(),
            "tolerance": np.array(self.params.tolerance),
        }

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Continue from a snapshot. If the tolerance has changed, the evidence is for another null, and starts anew.

        Raises:
            ValueError: ``state`` is not a snapshot of this monitor.
        """
        check_snapshot(state, self.snapshot(), self.params.epoch, self._offsets, CLOCK)
        same = float(state["tolerance"]) == self.params.tolerance
        self.alarm_counts[:] = state["alarms"]
        for name in ("counts", "unjudged", "window", *(("evidence", "drifted") if same else ())):
            getattr(self, name)[:] = state[name]
        self.clock = dict(zip(CLOCK, map(int, state["clock"]), strict=True))
        if not same:
            self.clock |= {"alarm": 0, "epochs": 0, "quiet": QUIET_ROWS}
