"""The last ten minutes of the whole server: a ring of readings of all counters, and their rates.

Every front keeps a ring of its own. All fronts read the same board, so all rings show the same server.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.messages.board import Board
from service.telemetry.metrics.engine import ACTIONS
from service.telemetry.metrics.families import Counters, Histograms
from service.telemetry.metrics.server_counts import ServerCounts

__all__ = ["SAMPLES", "SECONDS", "Samples"]

Floats = npt.NDArray[np.float64]
SAMPLES, SECONDS = 300, 2.0
"""The most samples of a ring, and the seconds from one to the next."""
REFUSED, FAILED = frozenset({"429", "503"}), frozenset({"500", "504"})
"""The codes of predictions that the server turned away, and of those that went wrong in the server."""
MILLISECONDS = 1000.0
DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The counters at one moment, copied: a view would keep all counters of the server in memory.

    ``now`` are gauges: queued rows, requests in flight, and the concurrency limit.
    """

    at: float
    requests: Floats
    durations: Floats
    rows: Floats
    busy: float
    batches: Floats
    judged: Floats
    flagged: Floats
    p_values: Floats
    now: tuple[float, float, float]


class Samples:
    """Reads the counters every two seconds, and turns differences of readings into rates."""

    def __init__(self, board: Board, counts: Callable[[], ServerCounts], predicting: Collection[str]) -> None:
        """Read ``counts`` and the board; ``predicting`` are the templates of the routes that predict."""
        self._board, self._counts, self._predicting = board, counts, predicting
        self._readings: deque[Reading] = deque(maxlen=SAMPLES + 1)
        self._document: dict[str, Any] | None = None
        self.read()

    def read(self) -> None:
        """Add a reading of all counters."""
        counts, board = self._counts(), self._board
        front, engine = counts.front, counts.engine
        self._document = None
        self._readings.append(
            Reading(
                at=time.time(),
                requests=_requests(front.requests, self._predicting),
                durations=_of_routes(front.duration, self._predicting),
                rows=engine.rows.values.copy(),
                busy=engine.busy_seconds,
                batches=np.array([engine.batch_rows.counts.sum(), engine.batch_rows.sums.sum()]),
                judged=engine.guard_rows.values.copy(),
                flagged=engine.guard_flags.values.copy(),
                p_values=engine.p_value.counts.copy(),
                now=(board.queued_rows, board.in_flight, board.concurrency_limit),
            )
        )
        self._guards, self._bounds = engine.guards, engine.p_value.bounds
        self._edges = np.array([0.0, *front.duration.bounds])

    async def keep_reading(self) -> None:
        """Read every two seconds, until this task is cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + SECONDS, loop.time())
            await asyncio.sleep(due - loop.time())
            self.read()

    def document(self) -> Mapping[str, Any]:
        """Give the rates of the last minutes, and what each guard has judged. Made once for each reading."""
        if self._document is None:
            self._document = self._made()
        return self._document

    def _made(self) -> dict[str, Any]:
        first, last = self._readings[0], self._readings[-1]
        times = [reading.at for reading in self._readings][1:]
        return {
            "seconds": SECONDS,
            "times": np.round(times, 2).tolist(),
            "series": self._series(),
            "guards": [
                {
                    "name": name,
                    "judged": int(last.judged[place]),
                    "flagged": int(last.flagged[place]),
                    "recent": {
                        "judged": int(_risen(first.judged, last.judged)[place]),
                        "flagged": int(_risen(first.flagged, last.flagged)[place]),
                    },
                    "p_values": {
                        "bounds": self._bounds,
                        "recent": _risen(first.p_values, last.p_values)[place].astype(int).tolist(),
                        "all": last.p_values[place].astype(int).tolist(),
                    },
                }
                for place, name in enumerate(self._guards)
            ],
        }

    def _series(self) -> dict[str, Any]:
        readings = list(self._readings)
        seconds = np.maximum(np.diff([reading.at for reading in readings]), 1e-3)
        answered = self._rises([reading.requests for reading in readings]) / seconds[:, None]
        rows = self._rises([reading.rows for reading in readings]) / seconds[:, None]
        durations = self._rises([reading.durations for reading in readings])
        batches = self._rises([reading.batches for reading in readings])
        busy = np.clip(np.diff([reading.busy for reading in readings]) / seconds, 0.0, 1.0)
        now = np.array([reading.now for reading in readings[1:]]).reshape(-1, 3)
        mean = np.divide(batches[:, 1], batches[:, 0], out=np.full(len(batches), np.nan), where=batches[:, 0] > 0)
        return {
            "requests": _rounded(answered[:, 0]),
            "refused": _rounded(answered[:, 1]),
            "failed": _rounded(answered[:, 2]),
            "rows": {action: _rounded(rows[:, place]) for place, action in enumerate(ACTIONS)},
            "p50": _rounded(quantiles(durations, self._edges, 0.5) * MILLISECONDS),
            "p99": _rounded(quantiles(durations, self._edges, 0.99) * MILLISECONDS),
            "queue": _rounded(now[:, 0]),
            "in_flight": _rounded(now[:, 1]),
            "limit": _rounded(now[:, 2]),
            "busy": _rounded(busy),
            "batch": _rounded(mean),
        }

    @staticmethod
    def _rises(cumulative: Sequence[Floats]) -> Floats:
        """Give what was added from each reading to the next."""
        return np.maximum(np.diff(np.stack(cumulative), axis=0), 0.0)


def quantiles(counts: Floats, edges: Floats, share: float) -> Floats:
    """Estimate a quantile of each histogram (n, b): linear within a bucket, NaN without observations.

    ``edges`` (b,) are the buckets' lower bounds. The last bucket has no end, so its quantile is its lower bound.
    """
    cumulative = np.cumsum(counts, axis=1)
    total = cumulative[:, -1]
    wanted = share * total
    place = np.minimum((cumulative < wanted[:, None]).sum(1), counts.shape[1] - 1)
    each = np.arange(len(counts))
    inside = counts[each, place]
    before = cumulative[each, place] - inside
    ends = np.append(edges[1:], edges[-1])
    within = np.divide(wanted - before, inside, out=np.zeros(len(counts)), where=inside > 0)
    found: Floats = np.where(total > 0, edges[place] + within * (ends[place] - edges[place]), np.nan)
    return found


def _requests(counters: Counters, routes: Collection[str]) -> Floats:
    """Count the requests of some routes: all, those that were refused, and those that failed."""
    found = np.zeros(3)
    for (route, code), value in zip(counters.index, counters.values.tolist(), strict=True):
        if route in routes:
            found += value, value * (code in REFUSED), value * (code in FAILED)
    return found


def _of_routes(histograms: Histograms, routes: Collection[str]) -> Floats:
    places = [place for (route,), place in histograms.index.items() if route in routes]
    counts: Floats = histograms.counts[places].sum(0)
    return counts


def _risen(before: Floats, after: Floats) -> Floats:
    return np.maximum(after - before, 0.0)


def _rounded(values: Floats) -> list[float | None]:
    """Round to a few digits; None stands for NaN, which JSON does not have."""
    return [None if np.isnan(value) else round(value, DIGITS) for value in values.tolist()]
