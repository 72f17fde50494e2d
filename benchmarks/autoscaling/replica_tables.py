"""Tables of a replica's figures over its rate, for many look-ups at once, and the cost of refusals."""

import math

import numpy as np
import numpy.typing as npt

from benchmarks.autoscaling.replica import DELAYS, Replica, quantile, steady

__all__ = ["Curve"]

Floats = npt.NDArray[np.float64]
LEAST_SPEED = 0.05


class Curve:
    """Tables of a replica over its rate, for looking up many at once.

    Refusals cost the interpreter's time, so a replica that refuses a share P of a rate r works at the speed
    ``1 - refusal * r * P``: its queue is the queue at the rate ``r / speed``, with times longer by ``1 / speed``.
    """

    def __init__(self, replica: Replica) -> None:
        """Solve the replica at about sixty rates up to fifty times its capacity."""
        self.replica = replica
        low, near, over = np.arange(0.04, 0.8, 0.06), np.arange(0.8, 1.2, 0.02), np.geomspace(1.2, 50, 14)
        shares = np.concatenate([[0.002], low, near, over])
        points = [steady(replica, share * replica.capacity) for share in shares.tolist()]
        self.rates, self.rows = np.array([[p.rate, p.rows] for p in points]).T
        self.rows = np.maximum.accumulate(self.rows + 1e-9 * np.arange(len(points)))
        self.served, self.queue, self.batches, self.busy, self.kernels, self.inflight = np.array(
            [[p.served, p.queue, p.batches, p.busy, p.kernels, p.inflight] for p in points]
        ).T
        self.delay = np.stack([p.delay for p in points])
        self.wait = np.stack([p.wait for p in points])
        self.speeds = np.array([self._speed(rate) for rate in self.rates])

    def _speed(self, rate: float) -> float:
        low, high = LEAST_SPEED, 1.0
        for _ in range(40):
            speed = (low + high) / 2
            refused = 1 - float(np.interp(rate / speed, self.rates, self.served)) / (rate / speed)
            low, high = (speed, high) if speed < 1 - self.replica.refusal * rate * refused else (low, speed)
        return (low + high) / 2 if high < 1 - 1e-9 else 1.0

    def speed(self, rate: Floats) -> Floats:
        """Give the speed of predictions beside refusals, at rates of arrival."""
        return np.asarray(np.interp(rate, self.rates, self.speeds))

    def settled(self, rate: Floats) -> tuple[Floats, Floats]:
        """Give the held rows, and the share of refusals, of a replica that has settled at a rate."""
        scaled = np.maximum(rate, 1e-9) / self.speed(rate)
        rows: Floats = np.interp(scaled, self.rates, self.rows) * np.minimum(1.0, scaled / self.rates[0])
        served = np.where(scaled < self.rates[0], scaled, np.interp(scaled, self.rates, self.served))
        return rows, np.maximum(0.0, 1 - served / scaled)

    def at(self, rows: Floats, table: Floats) -> Floats:
        """Look up one of the tables by the held rows."""
        found: Floats = np.interp(rows, self.rows, table) * np.minimum(1.0, rows / self.rows[0])
        return found

    def distribution(self, rows: Floats, speed: Floats, table: Floats) -> Floats:
        """Give CDFs at DELAYS, (replicas, DELAYS), by held rows and speed; ``table`` is ``delay`` or ``wait``."""
        upper = np.clip(np.searchsorted(self.rows, rows), 1, len(self.rows) - 1)
        share = np.clip((rows - self.rows[upper - 1]) / (self.rows[upper] - self.rows[upper - 1]), 0, 1)[:, None]
        mixed: Floats = (1 - share) * table[upper - 1] + share * table[upper]
        shift = np.round(-np.log(speed) / math.log(DELAYS[1] / DELAYS[0])).astype(int)
        if not shift.any():
            return mixed
        places = np.arange(len(DELAYS)) - shift[:, None]
        return np.where(places < 0, 0.0, np.take_along_axis(mixed, np.maximum(places, 0), axis=1))

    def figures(self, rate: float) -> dict[str, float]:
        """Give the figures that clients and scrapes see of a replica that has settled at a rate."""
        rates = np.array([rate])
        speed = self.speed(rates)
        rows, shed = self.settled(rates)
        cdf = self.distribution(rows, speed, self.delay)[0]
        goodput = float(rate * (1 - shed[0]))
        return {
            "rows_per_second": goodput,
            "p50_ms": 1e3 * quantile(cdf, 0.5),
            "p99_ms": 1e3 * quantile(cdf, 0.99),
            "inflight": float(self.at(rows, self.inflight)[0]),
            "queue_rows": float(self.at(rows, self.queue)[0]),
            "busy_ratio": float(self.at(rows, self.busy)[0]),
            "cpu_cores": self.cpu(rows, speed)[0],
            "shed_share": float(shed[0]),
        }

    def cpu(self, rows: Floats, speed: Floats) -> Floats:
        """Give the number of busy cores; refusals keep the rest of one core busy."""
        batches, served = self.at(rows, self.batches), self.at(rows, self.served)
        return speed * (self.replica.cpu_batch * batches + self.replica.cpu_row * served) + (1 - speed)
