"""The bets of the sequential monitor: for every stream a fixed set of alternatives, each with an e-value."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from guards.statistics.e_values import Bools, Floats, log_e_values, neighbour_share, null_weights, tilted

__all__ = ["Bets"]

CONFIDENCE = 0.95
LEAST = 1e-3
"""A bet is kept if it loses at least so many nats a row on the reference's frequencies, and wins so many if its
alternative holds.

A sum of e-processes of any other bet could reach the threshold by the mere number of its terms, without winning.
"""
# How far beyond the null each alternative lies, in standard deviations. The true distance is unknown, so bets are
# placed at several.
LOCATION, SPREAD, SHAPE = (0.15, 0.4, 0.9), (0.2, 0.6), (0.3,)
RARE, COMMON, INNER = (0.1, 0.4), (0.2, 0.6, -0.3), (0.4,)


class Bets:
    """The bets on all streams, and the log e-value that counted rows have for each bet.

    The first ``ordered`` streams have ``bins`` bins each: below, quantile bins, above and missing. The other streams
    are categorical, with a bin for each category. ``sizes`` is the number of bins of each stream; the bins of all
    streams lie in one flat array. On an ordered stream there are two kinds of bets: exponential tilts of the reference,
    in both directions, along the location and spread of normal scores and along two cosines; and bets that a bin has a
    larger share. On a categorical stream a bet is that a category has a larger or a smaller share.

    Bets never depend on observed rows. So the log e-value of any rows is the sum of their counts times fixed numbers on
    a grid: the sum is exact in any order, and however the counts of replicas are added.
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
        self._bins_of_means = self.stream
        """Where each value of :meth:`by_stream` belongs, for as many values as there were at most."""
        self.alive: Bools = np.zeros(self.count, dtype=np.bool_)

    def calibrate(self, counts: npt.NDArray[np.int64], tolerance: float) -> None:
        """Set every bet against the reference's ``counts`` (bins of all streams,); streams without rows get no bets.

        ``tolerance`` adds to the null every distribution that is nearer to the reference than so many standard
        deviations. A bet is dropped unless it clearly loses on the reference and clearly wins on its alternative.
        """
        weighed = counts.astype(np.float64)
        # n rows leave n + 1 gaps: one gap lies below all rows, and one above.
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
        """Give log e-values (ordered streams, bins, bets), and which bets are kept."""
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
        # Tilts leave the share of missing rows alone: another bet covers a change of that share.
        tilts = np.concatenate([tilts, np.ones((*tilts.shape[:2], 1))], axis=2)
        logs = log_e_values(tilts, null_weights(f, tilts, (radius[: self.ordered, None] ** 2) / 2))
        return np.ascontiguousarray(logs.transpose(0, 2, 1)), _worth(raw, f * tilts, logs)

    def _shares(self, share: Floats, own: Floats, radius: Floats) -> tuple[Floats, Floats, Bools]:
        """Give each bet's log e-value for a row in its bin and for a row outside, and which bets are kept."""
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
        """Give every bet's log e-value (..., bets) for ``counts`` (..., bins of all streams).

        Each stream counts all rows.
        """
        several = counts.shape[:-1]
        inside = counts[..., : self.ordered * self.bins].reshape(*several, self.ordered, 1, self.bins)
        tilts = np.matmul(inside.astype(np.float64), self._tilt_logs)
        rows = counts[..., : self.sizes[0]].sum(-1, keepdims=True)
        hits = counts[..., self._places].astype(np.float64)
        shares = hits * self._hit + (rows - hits) * self._miss
        return np.concatenate([tilts.reshape(*several, self.ordered * self.tilts_each), shares], axis=-1)

    def accumulate(self, evidence: npt.NDArray[np.float32], won: Floats, cap: float) -> npt.NDArray[np.float32]:
        """Give R = (R + 1) e, at most ``cap``, after each epoch (epochs, bets); a bet that was dropped adds no 1.

        ``evidence`` (bets,) is R before the first epoch, and ``won`` (epochs, bets) is e of every epoch.
        """
        after, before = np.empty(won.shape, np.float32), evidence
        for place, factors in enumerate(won):
            # A little less, so that rounding to float32 never raises the evidence.
            after[place] = np.minimum((before + self.alive) * factors, cap) * (1 - 2.0**-23)
            before = after[place]
        return after

    def by_stream(self, values: npt.NDArray[np.float32]) -> Floats:
        """Average a value of every bet (..., bets) over the bets on each stream: (..., streams)."""
        streams, count = len(self.sizes), values.size // self.count
        if values.size > len(self._bins_of_means):
            self._bins_of_means = (streams * np.arange(count)[:, None] + self.stream).ravel()
        means = np.bincount(self._bins_of_means[: values.size], (values * self.weight).ravel(), count * streams)
        return means.astype(np.float64).reshape(*values.shape[:-1], streams)


def _worth(own: Floats, alternative: Floats, logs: Floats) -> Bools:
    """Return which bets clearly lose on the reference's own frequencies and clearly win on their alternative."""
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
