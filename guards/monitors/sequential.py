"""Drift of any stream, raised at a stated rate: e-detectors on the bins of the reference."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from guards.bets import Bets
from guards.evidence import discoveries, e_bh_statistic, population_stability
from guards.monitor import Context, Monitor, MonitorParams, Series, State, Statistic
from guards.streams import StreamParams, Streams
from guards.types import Action, Batch, Outcome, Reference

__all__ = ["Sequential", "SequentialParams"]

WARNING = 0.1
"""Evidence for a warning, as a share of that for an alarm: by chance alone it comes ten times as often."""
QUIET_ROWS = 1000
"""An alarm or warning lasts until the evidence has stayed below that for a warning over so many rows."""
ERROR = 0.1
"""While there is an alarm, a stream is named if e-BH finds it at this error over the epochs that were looked at."""
WINDOW_ROWS = 10_000
"""The stability index is of the last one to two times so many rows: at two times, their counts are halved."""
CAP = 100.0
"""How far beyond an alarm evidence may pile up, so that it can go away again."""
ENOUGH_ROWS = 100
CLOCK = ("seen", "counted", "pending", "epochs", "quiet", "alarm")


class SequentialParams(StreamParams):
    """Parameters of the sequential monitor."""

    kind: Literal["sequential"] = "sequential"
    average_run_length: int = Field(
        default=100_000, ge=100, le=10**12, description="rows without drift to an alarm, at least and on average"
    )
    tolerance: float = Field(
        default=0.0, ge=0, le=10, description="drift that is none, in standard deviations; 0.3 is a PSI of about 0.1"
    )
    include: Literal["all", "clean"] = Field(
        default="all", description="clean: rows that a guard flagged are left out, here and in the reference"
    )
    epoch: int = Field(default=16, ge=1, le=4096, description="rows after which the evidence is updated")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.average_run_length < self.epoch:
            raise ValueError(f"average_run_length is below the {self.epoch} rows of an epoch")
        return self


class Sequential(Monitor):
    """Bets on every stream, Shiryaev-Roberts form: R = (R + 1) e after every epoch of a fixed number of rows.

    The sum of all e-processes that might have started is an e-detector: its expectation at any stopping time is at most
    the number of epochs, whatever the dependence between bets and streams. So is the mean over a stream's bets, the
    mean over streams, and the e-BH statistic below that; the alarm is where it reaches the average run length in
    epochs, which is then what it says, with probability 0.95 over references. On the reference's own frequencies every
    bet loses at least a thousandth of a nat a row, so that R stays below the epochs of about a thousand rows: it cannot
    alarm by the mere number of rows, as it would at exactly the run length where a bet neither wins nor loses.
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
        self.alarms = np.zeros(streams, dtype=np.int64)
        self.drifted = np.zeros(streams, dtype=np.bool_)
        self.clock = dict.fromkeys(CLOCK, 0) | {"quiet": QUIET_ROWS}

    def fit(self, reference: Reference, outcome: Outcome) -> Self:
        """Set the bins' edges at the reference's quantiles, and count the reference into them."""
        self.streams.fit(reference, outcome)
        self.reference_counts = self.streams.reference(reference.batch, outcome, self._included(outcome))
        return self

    def _included(self, outcome: Outcome) -> Tensor:
        verdict = outcome.verdict
        if self.params.include == "all":
            return torch.ones_like(verdict.action, dtype=torch.bool)
        return (verdict.action == Action.ALLOW) & ~verdict.flagged.any(0)

    def observe(self, batch: Batch, outcome: Outcome) -> None:
        """Count every row once in every stream, and judge each epoch that is complete."""
        places = self.streams.places(batch, outcome).cpu().numpy()
        self.clock["seen"] += places.shape[1]
        if self.params.include == "clean":
            included = self._included(outcome).cpu().numpy()
            self.counts += self._count(places[:, ~included])
            places = places[:, included]
        start, rows = 0, places.shape[1]
        while start < rows:
            stop = min(rows, start + self.params.epoch - self.clock["pending"])
            counts = self._count(places[:, start:stop])
            self.counts += counts
            self.unjudged += counts.astype(np.uint16)
            self.clock["pending"] += stop - start
            if self.clock["pending"] == self.params.epoch:
                self.judge(self.unjudged.astype(np.int64))
                self.unjudged[:], self.clock["pending"] = 0, 0
            start = stop

    def _count(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.bincount(places.ravel(), minlength=self.streams.size)

    def judge(self, counts: npt.NDArray[np.int64]) -> None:
        """Update the evidence by an epoch's counts (bins of all streams,): of one replica, or the sum of several's."""
        self._calibrate()
        clock, epoch, cap = self.clock, self.params.epoch, CAP * self.threshold * self._bets.count
        won = np.exp(np.minimum(self._bets.log_e_values(counts), 600.0))
        evidence = np.minimum((self.evidence + self._bets.alive) * won, cap)
        self.evidence[:] = evidence * (1 - 2.0**-23)  # to float32, and never up
        clock["counted"], clock["epochs"] = clock["counted"] + epoch, clock["epochs"] + 1
        self.window += counts.astype(np.uint16)
        if self.window[: self._bets.sizes[0]].sum() >= 2 * WINDOW_ROWS:
            self.window //= 2
        by_stream = self._bets.by_stream(self.evidence)
        statistic = e_bh_statistic(by_stream)
        clock["quiet"] = 0 if statistic >= WARNING * self.threshold else min(QUIET_ROWS, clock["quiet"] + epoch)
        if statistic >= self.threshold:
            clock["alarm"] = 1
        if clock["alarm"]:
            named = discoveries(by_stream, min(self.threshold, clock["epochs"] / ERROR)) & ~self.drifted
            self.alarms += named
            self.drifted |= named
            if clock["quiet"] == QUIET_ROWS:
                self.drifted[:], self.evidence[:], clock["alarm"], clock["epochs"] = False, 0.0, 0, 0

    def _calibrate(self) -> None:
        """Set the bets, once the reference is known: it comes with the fit, or with the bundle's buffers."""
        if self._calibrated is not self.reference_counts:
            self._bets.calibrate(self.reference_counts.cpu().numpy(), self.params.tolerance)
            self._calibrated = self.reference_counts

    def state(self) -> State:
        """Tell whether streams have drifted."""
        if self.clock["alarm"]:
            return "alarm"
        if self.clock["counted"] < max(ENOUGH_ROWS, self.params.epoch):
            return "insufficient_data"
        return "warning" if self.clock["quiet"] < QUIET_ROWS else "ok"

    def _log_evidence(self) -> list[float]:
        logs: list[float] = np.log(np.maximum(self._bets.by_stream(self.evidence), 1.0)).tolist()
        return logs

    def report(self) -> list[Statistic]:
        """Give each stream's log e-value, whether it has drifted, and its stability index; and what is an alarm.

        The index has no value while there are too few rows, for the stream's bins or at all.

        ``threshold`` is the log e-value at which a stream alarms alone; j streams alarm together where each has
        log(j) less.
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
        """Give the streams' bins (of all rows, whatever is included), and each stream's evidence and alarms."""
        own = []
        for name, evidence, alarms in zip(self.names, self._log_evidence(), self.alarms.tolist(), strict=True):
            labels = {"monitor": self.name, "stream": name}
            own.append(Series("drift_evidence", "gauge", labels, evidence))
            own.append(Series("drift_alarms_total", "counter", labels, float(alarms)))
        return [*self.streams.series(self.counts), *own]

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        """Give all counts and the evidence, with the settings that it was won under."""
        return {
            "counts": self.counts.copy(),
            "evidence": self.evidence.copy(),
            "unjudged": self.unjudged.copy(),
            "window": self.window.copy(),
            "alarms": self.alarms.copy(),
            "drifted": self.drifted.copy(),
            "clock": np.array([self.clock[name] for name in CLOCK], dtype=np.int64),
            "reference": self.reference_counts.cpu().numpy().copy(),
            "tolerance": np.array(self.params.tolerance),
        }

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go on from a snapshot; evidence against another tolerance is evidence of something else, and starts anew.

        Raises:
            ValueError: it is not a snapshot of this monitor.
        """
        _check(state, self.snapshot(), self.params.epoch, self._offsets)
        same = float(state["tolerance"]) == self.params.tolerance
        for name in ("counts", "unjudged", "window", "alarms", *(("evidence", "drifted") if same else ())):
            getattr(self, name)[:] = state[name]
        self.clock = dict(zip(CLOCK, map(int, state["clock"]), strict=True))
        if not same:
            self.clock |= {"alarm": 0, "epochs": 0, "quiet": QUIET_ROWS}


def _check(
    state: Mapping[str, npt.NDArray[np.generic]],
    own: Mapping[str, npt.NDArray[np.generic]],
    epoch: int,
    offsets: npt.NDArray[np.int64],
) -> None:
    """Refuse what no monitor of the same bundle gave."""
    if state.keys() != own.keys():
        raise ValueError(f"a snapshot has {sorted(own)}, this has {sorted(state)}")
    for name, array in own.items():
        if state[name].shape != array.shape or state[name].dtype != array.dtype:
            raise ValueError(f"{name} is {state[name].dtype} {state[name].shape}, not {array.dtype} {array.shape}")
        if not (np.isfinite(state[name]) & (state[name] >= np.zeros((), array.dtype))).all():
            raise ValueError(f"{name} holds a number that is negative or not finite")
    if not np.array_equal(state["reference"], own["reference"]):
        raise ValueError("it was taken with another reference: of another bundle")
    clock = dict(zip(CLOCK, state["clock"].tolist(), strict=True))
    pending = np.add.reduceat(state["unjudged"].astype(np.int64), offsets)
    if clock["alarm"] > 1 or clock["pending"] >= epoch or (pending != clock["pending"]).any():
        raise ValueError("its pending rows do not fit its clock")
