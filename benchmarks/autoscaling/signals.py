"""The signals that an autoscaler may read, and what Prometheus or metrics-server computes for them."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.autoscaling.fleet import Fleet
from benchmarks.autoscaling.hpa import average_value, per_pod, value
from benchmarks.autoscaling.pods import Pods
from benchmarks.autoscaling.replica import DELAYS, quantile

__all__ = ["SCRAPE", "Reading", "Signal", "desired"]

Floats = npt.NDArray[np.float64]
SCRAPE = 15.0
"""Seconds between scrapes, and evaluations. Targets are scraped spread over it: a mean of many is of all of it."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What the autoscaler reads: a quantity of a replica, over a window, how it is asked for, and its target.

    ``missing``: what the autoscaler gets if Prometheus has no value; a ``resource`` comes from metrics-server.
    """

    name: str
    read: Literal["load", "wait", "busy", "kernels", "cpu", "rate"]
    kind: Literal["average_value", "value", "per_pod"]
    target: float
    window: float = 60.0
    missing: Literal["hold", "zero"] = "hold"
    resource: bool = False


class Reading:
    """A quantity as Prometheus or metrics-server sees it: means over a window by replica, and their sum or mean."""

    def __init__(self, signal: Signal) -> None:
        """Begin without any samples."""
        self.signal = signal
        self.times, self.integral = deque([0.0]), deque([0.0])
        self.waits: deque[tuple[float, Floats]] = deque()
        self.latest: float | None = None
        self.since = -math.inf

    def add(self, now: float, seconds: float, fleet: Fleet, rate: float, rows: float) -> None:
        """Record a replica's figures of the step that ends now, with ``rate`` requests of ``rows`` rows each."""
        self.times.append(now)
        self.integral.append(self.integral[-1] + fleet.reading(self.signal.read, rate, rows) * seconds)
        while self.times[0] < now - 2 * self.signal.window - SCRAPE:
            self.times.popleft()
            self.integral.popleft()
        if self.signal.read == "wait":
            self.waits.append((now, fleet.delays(fleet.curve.wait)))

    def evaluate(self, now: float, pods: Pods, *, monitored: bool) -> None:
        """Evaluate the rule; while nothing is monitored, there is no value, and there are no samples for later."""
        if not (monitored or self.signal.resource):
            self.latest, self.since = None, now
            return
        begin = max(now - self.signal.window, self.since)
        while self.waits and self.waits[0][0] <= begin:
            self.waits.popleft()
        if self.signal.read == "wait":
            cdf = np.sum([waits for _, waits in self.waits], axis=0) if self.waits else np.zeros(len(DELAYS))
            self.latest = quantile(cdf / cdf[-1], 0.95) if cdf[-1] > 0 else None
            return
        lives = pods.lives(begin, now, gone=not self.signal.resource)
        ends = np.interp(lives[:, :2].ravel(), self.times, self.integral).reshape(-1, 2)
        means = (ends[:, 1] - ends[:, 0]) / np.maximum(lives[:, 1] - lives[:, 0], 1e-9)
        total, count = float(means @ lives[:, 2]), float(lives[:, 2].sum())
        self.latest = None if count == 0 else total if self.signal.kind == "average_value" else total / count


def desired(signals: Sequence[Signal], seen: Sequence[float | None], pods: Pods) -> int | None:
    """Give the largest proposal; None if no metric is there, or one is missing and the others propose fewer pods."""
    proposals = [_proposal(signal, value, pods) for signal, value in zip(signals, seen, strict=True)]
    known = [proposal for proposal in proposals if proposal is not None]
    if not known or (len(known) < len(proposals) and max(known) < pods.wanted):
        return None
    return max(known)


def _proposal(signal: Signal, seen: float | None, pods: Pods) -> int | None:
    if seen is None:
        return 0 if signal.missing == "zero" else None
    if signal.kind == "average_value":
        return average_value(seen, signal.target, pods.wanted)
    if signal.kind == "value":
        return value(seen, signal.target, pods.wanted, pods.ready)
    return per_pod(seen, signal.target, pods.wanted, pods.ready, pods.wanted - pods.ready)
