"""The control loop in small steps: traffic, replicas, scraped figures, the autoscaler, and pods that start."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.autoscaling.fleet import Fleet
from benchmarks.autoscaling.hpa import Autoscaler
from benchmarks.autoscaling.pods import Pods
from benchmarks.autoscaling.replica import DELAYS, quantile
from benchmarks.autoscaling.replica_tables import Curve
from benchmarks.autoscaling.signals import SCRAPE, Reading, Signal, desired
from benchmarks.autoscaling.traffic import Traffic

__all__ = ["SLO_SECONDS", "Run", "simulate"]

Floats = npt.NDArray[np.float64]
SLO_SECONDS = 0.25
SYNC, SYNC_PHASE = 15.0, 7.0
"""The autoscaler's period, and how it falls between the rule's evaluations."""
ADAPTER_SECONDS = 2.0
BAD = 0.01
"""The share refused or late from which an interval counts as not recovered."""


@dataclass(slots=True, eq=False)
class Run:
    """The result of a signal on a traffic. Series have one entry a scrape interval; ``late`` includes refusals."""

    signal: str
    time: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    scale_ups: list[float] = field(default_factory=list)
    offered: float = 0.0
    refused: float = 0.0
    served: float = 0.0
    replica_seconds: float = 0.0
    cdf: Floats = field(default_factory=lambda: np.zeros(len(DELAYS)))
    _interval: Floats = field(default_factory=lambda: np.zeros(len(DELAYS)))
    _came: float = 0.0

    def add(self, came: float, fleet: Fleet, delays: Floats, pod_seconds: float) -> None:
        """Add a step to the figures."""
        self.offered += came
        self.refused += fleet.shed
        self.served += float(fleet.served.sum())
        self.replica_seconds += pod_seconds
        self.cdf += delays
        self._interval += delays
        self._came += came

    def record(self, now: float, ready: int) -> None:
        """End a scrape interval."""
        good = float(np.interp(SLO_SECONDS, DELAYS, self._interval))
        self.time.append(now)
        self.replicas.append(ready)
        self.p99.append(quantile(self._interval / self._interval[-1], 0.99) if self._interval[-1] > 0 else math.nan)
        self.late.append(1 - good / self._came if self._came else 0.0)
        self._interval, self._came = np.zeros(len(DELAYS)), 0.0

    def summary(self, event: float | None, oracle_seconds: float) -> dict[str, float | None]:
        """Give the figures to compare; shares are of all rows that came, p99 is of those answered.

        ``recovered_s``: from the event to the end of the last interval with over 1 % refused or late; None, to the end
        of the run. ``scale_ups``: decisions upwards in that time.
        """
        figures: dict[str, float | None] = {
            "p99_ms": 1e3 * quantile(self.cdf / max(self.cdf[-1], 1e-9), 0.99),
            "within_slo": float(np.interp(SLO_SECONDS, DELAYS, self.cdf)) / self.offered,
            "shed": self.refused / self.offered,
            "replica_h": self.replica_seconds / 3600,
            "x_oracle": self.replica_seconds / oracle_seconds,
            "most": float(max(self.replicas)),
        }
        if event is not None:
            bad = [at for at, late in zip(self.time, self.late, strict=True) if at >= event and late > BAD]
            last = bad[-1] if bad else event
            figures["recovered_s"] = None if last >= self.time[-1] - 2 * SCRAPE else last - event
            figures["scale_ups"] = float(sum(event <= at <= last for at in self.scale_ups))
        return figures


def simulate(
    curve: Curve, traffic: Traffic, signals: Sequence[Signal], autoscaler: Autoscaler, *, replicas: int
) -> Run:
    """Run a traffic through the loop, from ``replicas`` ready replicas; the largest proposal of all signals counts."""
    run, fleet = Run(" or ".join(signal.name for signal in signals)), Fleet(curve)
    readings = [Reading(signal) for signal in signals]
    pods, ready, step = Pods(curve.replica.start, curve.replica.provision, replicas), replicas, traffic.step
    rule, sync = _Clock(SCRAPE, SCRAPE), _Clock(SYNC, SYNC_PHASE)
    on_the_way: deque[tuple[float, list[float | None]]] = deque()
    seen: list[float | None] = [None] * len(signals)
    for index, (rate, rows) in enumerate(zip(traffic.rate.tolist(), traffic.rows.tolist(), strict=True)):
        now = (index + 1) * step
        before, ready = ready, pods.advance(now, float(traffic.places[index]))
        run.served += fleet.resize(before, ready)
        fleet.step(rate * rows, ready, step)
        for reading in readings:
            reading.add(now, step, fleet, rate / max(ready, 1), rows)
        if now > traffic.scored:
            run.add(rate * rows * step, fleet, fleet.delays(curve.delay), pods.placed * step)
        if rule.due(now):
            for reading in readings:
                reading.evaluate(now, pods, monitored=bool(traffic.monitored[index]))
            on_the_way.append((now + ADAPTER_SECONDS, [reading.latest for reading in readings]))
            if now > traffic.scored:
                run.record(now, ready)
        while on_the_way and on_the_way[0][0] <= now:
            seen = on_the_way.popleft()[1]
        if sync.due(now):
            wanted = autoscaler.decide(now, pods.wanted, desired(signals, seen, pods))
            if wanted > pods.wanted:
                run.scale_ups.append(now)
            pods.resize(now, wanted)
    return run


class _Clock:
    """A clock that is due once a period."""

    def __init__(self, period: float, first: float) -> None:
        self.period, self.next = period, first

    def due(self, now: float) -> bool:
        if now < self.next:
            return False
        self.next += self.period
        return True
