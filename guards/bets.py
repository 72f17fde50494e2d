"""What is bet on: a fixed set of departures from the reference for every stream, each of them an e-value."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from guards.evidence import Bools, Floats, log_e_values, neighbour_share, null_weights, tilted

__all__ = ["Bets"]

CONFIDENCE = 0.95
LEAST = 1e-3
"""Nats a row that a bet has to lose on the reference's own frequencies, and to win on what it is for.

Of others a sum of e-processes could become evidence by waiting: by their number, and not by what they won.
"""
# How far beyond the null each alternative lies, in standard deviations. Several distances, as nobody knows which.
LOCATION, SPREAD, SHAPE = (0.15, 0.4, 0.9), (0.2, 0.6), (0.3,)
RARE, COMMON, INNER = (0.1, 0.4), (0.2, 0.6, -0.3), (0.4,)


class Bets:
    """The bets on all streams, and what a number of rows wins or loses.

    ``ordered`` streams have ``bins`` bins each: below, quantile bins, above and missing. They come first; the others
    are categories, ``sizes`` bins each. All bins lie in one flat array. On an ordered stream the bets are exponential
    tilts of the reference along the location and spread of normal scores and two cosines, both ways, and that a bin
    holds a larger share; on categories, that one has a larger or a smaller share.

    Bets never depend on what was observed, so there is nothing to fix before a batch: the log e-value of any rows is
    the sum of their counts times fixed numbers on a grid, exact in any order and however replicas' counts are added.
    """

    def __init__(self, sizes: Sequence[int], *, ordered: int) -> None:
        self.sizes, self.ordered = np.asarray(sizes), ordered
        self.bins = int(sizes[0]) if ordered else 0
        streams: list[int] = []
        places: list[int] = []
        distances: list[float] = []
        start = 0
        for stream, size in enumerate(sizes):
            for index in range(size):
                rare = index in (0, size - 2)
                missing = index == size - 1
                which = (RARE if rare else COMMON if missing else INNER) if stream < ordered else COMMON
                streams += [stream] * len(which)
                places += [start + index] * len(which)
                distances += which
            start += size
        self.size = start
        self.tilts_each = 2 * (len(LOCATION) + len(SPREAD) + 2 * len(SHAPE))
        self._places, self._distances = np.asarray(places, dtype=np.intp), np.asarray(distances)
        of_tilts = np.repeat(np.arange(ordered), self.tilts_each)
        self.stream = np.concatenate([of_tilts, np.asarray(streams, dtype=np.intp)])
        self.count = len(self.stream)
        self.weight = 1 / np.bincount(self.stream, minlength=len(sizes))[self.stream]
        self.alive: Bools = np.zeros(self.count, dtype=np.bool_)

    def calibrate(self, counts: npt.NDArray[np.int64], tolerance: float) -> None:
        """Set every bet against the reference's ``counts`` (bins of all streams,); streams without rows get none.

        ``tolerance`` adds to the null every distribution that is nearer to the reference than so many standard
        deviations. A bet that the reference does not clearly lose, or its alternative clearly win, is dropped.
        """
        weighed = counts.astype(np.float64)
        # Of n rows' n + 1 gaps one lies below all of them and one above.
        if self.ordered:
            weighed[: self.ordered * self.bins].reshape(self.ordered, self.bins)[:, [0, -2]] += 1
        rows = np.add.reduceat(weighed, np.cumsum([0, *self.sizes[:-1]]))
        empty = np.add.reduceat(counts, np.cumsum([0, *self.sizes[:-1]])) == 0
        rows[empty] = 1.0
        share, own = (numbers / np.repeat(rows, self.sizes) for numbers in (weighed, counts))
        nats = math.log(self.count / (1 - CONFIDENCE))
        radius = np.sqrt(2 * nats / rows) + tolerance
        self._tilt_logs, tilts_alive = self._tilts(share, own, radius)
        self._hit, self._miss, shares_alive = self._shares(share, own, radius)
        self.alive = np.concatenate([tilts_alive.ravel(), shares_alive]) & ~empty[self.stream]

    def _tilts(self, share: Floats, own: Floats, radius: Floats) -> tuple[Floats, Bools]:
        """Give log e-values (ordered streams, bins, bets), and which bets are worth it."""
        if not self.ordered:
            return np.zeros((0, 0, self.tilts_each)), np.zeros((0, self.tilts_each), dtype=np.bool_)
        f, raw = (x[: self.ordered * self.bins].reshape(self.ordered, 1, self.bins) for x in (share, own))
        present = f[:, 0, :-1] / f[:, 0, :-1].sum(1, keepdims=True)
        scores, beyond = [], []
        for direction, distances in zip(_directions(present), (LOCATION, SPREAD, SHAPE, SHAPE), strict=True):
            scores += [direction, -direction] * len(distances)
            beyond += [distance for distance in distances for _ in range(2)]
        slopes = np.stack(scores, axis=1)
        distance = radius[: self.ordered, None] + np.asarray(beyond)
        tilts = tilted(present[:, None], slopes, distance)
        # Missing rows are left as they are: that their share changes is a bet of its own.
        tilts = np.concatenate([tilts, np.ones((*tilts.shape[:2], 1))], axis=2)
        logs = log_e_values(tilts, null_weights(f, tilts, (radius[: self.ordered, None] ** 2) / 2))
        return np.ascontiguousarray(logs.transpose(0, 2, 1)), _worth(raw, f * tilts, logs)

    def _shares(self, share: Floats, own: Floats, radius: Floats) -> tuple[Floats, Floats, Bools]:
        """Give each bet's log e-value of a row in its bin and of one that is not, and which bets are worth it."""
        f, raw = share[self._places], own[self._places]
        r = radius[self.stream[self.ordered * self.tilts_each :]]
        q = neighbour_share(f, self._distances + np.copysign(r, self._distances))
        reference = np.stack([f, 1 - f], axis=1)
        alternative = np.stack([q, 1 - q], axis=1)
        impossible = reference == 0
        tilts = np.where(impossible, 1.0, alternative / np.where(impossible, 1.0, reference))
        weights = null_weights(reference, tilts, r**2 / 2)
        logs = log_e_values(np.where(impossible & (alternative > 0), np.inf, tilts), weights)
        return logs[:, 0], logs[:, 1], _worth(np.stack([raw, 1 - raw], axis=1), alternative, logs)

    def log_e_values(self, counts: npt.NDArray[np.int64]) -> Floats:
        """Give every bet's log e-value (bets,) of rows that ``counts`` (bins of all streams,) has in every stream."""
        inside = counts[: self.ordered * self.bins].reshape(self.ordered, 1, self.bins).astype(np.float64)
        tilts = np.matmul(inside, self._tilt_logs) if self.ordered else np.zeros(0)
        rows = int(counts[: self.sizes[0]].sum())
        hits = counts[self._places].astype(np.float64)
        return np.concatenate([tilts.ravel(), hits * self._hit + (rows - hits) * self._miss])

    def by_stream(self, values: npt.NDArray[np.float32]) -> Floats:
        """Average a value of every bet (bets,) over those on each stream: (streams,)."""
        means: Floats = np.bincount(self.stream, values * self.weight, minlength=len(self.sizes)).astype(np.float64)
        return means


def _worth(own: Floats, alternative: Floats, logs: Floats) -> Bools:
    """Tell which bets lose on the reference's own frequencies and win on their alternative, each clearly."""
    worth: Bools = ((own * logs).sum(-1) < -LEAST) & ((alternative * logs).sum(-1) > LEAST)
    return worth


def _directions(share: Floats) -> list[Floats]:
    """Give location, spread and two shapes as scores of bins (streams, bins), orthonormal under ``share``."""
    rank = np.cumsum(share, axis=1) - share / 2
    normal = NormalDist()
    z = np.vectorize(normal.inv_cdf, otypes=[np.float64])(np.clip(rank, 1e-12, 1 - 1e-12))
    found: list[Floats] = []
    for score in (z, z**2, np.cos(3 * math.pi * rank), np.cos(4 * math.pi * rank)):
        rest = score - (share * score).sum(1, keepdims=True)
        for other in found:
            rest = rest - (share * rest * other).sum(1, keepdims=True) * other
        norm = np.sqrt((share * rest**2).sum(1, keepdims=True))
        found.append(np.where(norm > 1e-6, rest / np.maximum(norm, 1e-6), 0.0))  # noqa: PLR2004 - fewer bins in use than directions
    return found
