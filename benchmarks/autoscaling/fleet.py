"""Replicas as fluid queues under a common rate, which changes.

The pointwise stationary fluid flow approximation (Wang, Tipper and Banerjee, "A simple approximation for modeling
nonstationary queues", INFOCOM 1996): a replica serves as fast as one that has settled with as many rows. Replicas are
of a few classes, since balancing is never even. Rows add up: those that came were served, refused, or are held.
"""

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from benchmarks.autoscaling.replica_tables import Curve

__all__ = ["IMBALANCE", "Fleet"]

Floats = npt.NDArray[np.float64]
IMBALANCE = 0.1
"""Standard deviation of what replicas get, as a share of the mean: assumed."""
CLASSES = 5
SHARES = np.maximum(0.1, 1 + IMBALANCE * norm.ppf((np.arange(CLASSES) + 0.5) / CLASSES))
SHARES /= SHARES.mean()


class Fleet:
    """Replicas of one kind under a common rate: the rows that each class holds, and the figures of the last step."""

    def __init__(self, curve: Curve) -> None:
        """Begin without any rows."""
        self.curve = curve
        self.rows = np.zeros(CLASSES)
        self.speed = np.ones(CLASSES)
        self.served = np.zeros(CLASSES)
        self.shed = 0.0

    def step(self, rate: float, replicas: int, seconds: float) -> None:
        """Let ``rate`` rows a second arrive for some seconds; then ``served`` and ``shed`` cover all replicas."""
        if replicas == 0:
            self.served, self.shed = np.zeros(CLASSES), rate * seconds
            return
        each = rate / replicas * SHARES
        self.speed = self.curve.speed(each)
        settled, refused = self.curve.settled(each)
        gain = (each - self.curve.at(self.rows, self.curve.served) * self.speed) * seconds
        rows = np.where(gain > 0, np.minimum(self.rows + gain, settled), np.maximum(self.rows + gain, settled))
        change = rows - self.rows
        shed = np.where(gain > 0, np.maximum(0.0, each * refused * seconds - change), 0.0)
        scale = replicas / CLASSES
        self.served = (each * seconds - shed - change) * scale
        self.shed = float(shed.sum()) * scale
        self.rows = rows

    def resize(self, before: int, after: int) -> float:
        """Spread the held rows over more replicas. With fewer, those that leave finish their rows; return these."""
        if after >= before:
            self.rows = self.rows * (before / after) if after else self.rows
            return 0.0
        finished = float(self.rows.mean()) * (before - after)
        if after == 0:
            self.rows = np.zeros(CLASSES)
        return finished

    def delays(self, table: Floats) -> Floats:
        """Give the delays' CDF at DELAYS of the rows served in the last step, times their number."""
        return self.served @ self.curve.distribution(self.rows, self.speed, table)

    def reading(self, read: str, rate: float, rows: float) -> float:
        """Give a quantity of the mean replica at ``rate`` requests a second with a number of rows each."""
        curve = self.curve
        match read:
            case "load":
                return float((curve.at(self.rows, curve.inflight) / rows + curve.at(self.rows, curve.queue)).mean())
            case "cpu":
                return float(curve.cpu(self.rows, self.speed).mean()) / curve.replica.cores
            case "busy" | "kernels":
                return min(1.0, float(curve.at(self.rows, getattr(curve, read)).mean()))
        return rate
