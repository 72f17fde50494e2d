"""Computes settings of an autoscaler from a replica's curve, by stated rules."""

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.autoscaling.control_loop import SLO_SECONDS
from benchmarks.autoscaling.fleet import IMBALANCE
from benchmarks.autoscaling.replica import Replica, quantile
from benchmarks.autoscaling.replica_tables import Curve

__all__ = ["Settings", "recommend"]

KNEE = 0.7
NEGLIGIBLE = 1e-3


@dataclass(frozen=True, slots=True)
class Settings:
    """What to write into a config and a manifest.

    ``rate``: requests a second that a replica is planned for, the highest at which p99 is within half of the SLO, but
    no more than 70 % of its capacity or ``most_rate``. ``load``: in flight plus queued there, for the target's
    AverageValue. ``most_rate``: the highest at which the busiest replica is within the whole SLO. ``queue_rows``: whole
    batches that are served within half of the SLO, for ``server.max_queue_rows``: what waits longer had better be
    refused. ``wait``: half of the longest wait that such a queue makes, a target for the queue wait; a larger one may
    never be seen. ``bears``: how many times ``rate`` a replica may get before refusals cost those it admits their SLO.
    """

    rate: float
    load: float
    most_rate: float
    queue_rows: int
    wait: float
    bears: float

    def least_replicas(self, quietest: float) -> int:
        """Give the number of replicas that can lose one and still carry the quietest rate; at least two."""
        return max(2, int(np.ceil(quietest / self.rate)) + 1)


def recommend(replica: Replica) -> tuple[Replica, Curve, Settings]:
    """Bound the replica's queue, and read the targets off its curve.

    Raises:
        ValueError: No rate keeps the SLO.
    """
    batches = max(1, int(SLO_SECONDS / 2 * replica.capacity / replica.max_batch))
    bounded = replace(replica, queue_rows=batches * replica.max_batch)
    tables = Curve(bounded)
    p99 = np.array([quantile(cdf, 0.99) for cdf in tables.delay])
    shed = 1 - tables.served / tables.rates

    def highest(limit: float) -> float:
        good = (p99 <= limit) & (shed <= NEGLIGIBLE)
        if not good[0]:
            raise ValueError(f"{replica.name}: even an idle replica's p99 is over {1e3 * limit:.0f} ms")
        return float(tables.rates[max(0, int(np.argmin(good)) - 1)])

    busiest = 1 + 1.5 * IMBALANCE
    most_rate = highest(SLO_SECONDS) / busiest
    rate = min(KNEE * replica.capacity, highest(SLO_SECONDS / 2), most_rate)
    rows, _ = tables.settled(np.array([rate]))
    load = float(tables.at(rows, tables.inflight)[0] + tables.at(rows, tables.queue)[0])
    times = np.arange(1.0, 20.0, 0.25)
    kept = [t for t in times.tolist() if tables.figures(t * rate)["p99_ms"] <= 1e3 * SLO_SECONDS]
    return bounded, tables, Settings(
        rate, load, most_rate, bounded.queue_rows,
        bounded.queue_rows / bounded.capacity / 2, max(kept),
    )  # fmt: skip
