"""Betting against a reference: e-values whose null is every distribution that the reference cannot rule out.

A reference of n rows tells the probabilities p of bins only up to its own sampling error, and a test that takes its
frequencies f for the truth learns that error. So a bet on an alternative q is paid as if the truth were the point of a
ball around f that is closest to q (the reverse information projection): q_k / p*_k has expectation at most 1 under
every distribution in the ball, and is an e-value. On the ball of all p with KL(f, p) <= b that point is a mixture
(1 - w) f + w q, which leaves one number to find.

How large must the ball be? The bet fails on a half space of distributions, which lies outside the ball. By Chernoff's
bound its probability, over references, is at most exp(-n b) for one bet fixed beforehand: exactly so where the bins are
cut at order statistics, whose masses follow Dirichlet's law, and for the share of one bin of a fixed partition, which
is binomial. So b = log(number of bets / alpha) / n holds for all bets at once with probability 1 - alpha, whatever the
number of bins; a box of Clopper-Pearson intervals has to hold for every bin, and costs much more power.

Sources: Grunwald, de Heide, Koolen 2024, "Safe testing" (projection); Shin, Ramdas, Rinaldo 2024, "E-detectors";
Wang, Ramdas 2022, "False discovery rate control with e-values"; Honda, Takemura 2010 (the bound).
"""

import math

import numpy as np
import numpy.typing as npt

__all__ = [
    "EXPECTED",
    "GRID",
    "SIGNIFICANCE",
    "SIGNIFICANT",
    "discoveries",
    "e_bh_statistic",
    "log_e_values",
    "neighbour_share",
    "null_weights",
    "population_stability",
    "tilted",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
GRID = 2.0**-30
"""Log e-values are multiples of this, rounded down: sums of thousands are exact, in any order, on any machine."""
FLOOR, CEILING = -16.0, 16.0
STEPS = 60
Z95 = 1.959963984540054
EXPECTED = 5.0
"""The least rows that chi-squared and the stability index expect in a bin (Cochran 1954)."""
SIGNIFICANCE, SIGNIFICANT = 1e-6, 4.7534
"""What is no chance any more: a p-value, and the normal quantile above which it lies."""


def null_weights(reference: Floats, tilts: Floats, bound: Floats) -> Floats:
    """Find the weight w (...) of each bet's projection (1 - w) f + w q; 1 where q itself lies inside of the ball.

    ``reference`` (..., bins) is f, ``tilts`` (..., bins) is q / f, any number where f is 0: such a bin only takes mass
    that q has not got elsewhere. ``bound`` (...) is the ball's radius in nats.
    """

    def divergence(weight: Floats) -> Floats:
        mixed = np.where(reference > 0, 1 + weight[..., None] * (tilts - 1), 1.0)
        nats: Floats = -(reference * np.log(np.maximum(mixed, 1e-300))).sum(-1)
        return nats

    shape = np.broadcast_shapes(reference.shape, tilts.shape)[:-1]
    low, high = np.zeros(shape), np.ones(shape)
    outside = divergence(high) > bound
    for _ in range(STEPS):
        middle = (low + high) / 2
        beyond = divergence(middle) > bound
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    # The end of the interval that lies outside: a ball slightly too large is still valid.
    weights: Floats = np.where(outside, high, 1.0)
    return weights


def log_e_values(tilts: Floats, weights: Floats) -> Floats:
    """Give log(q_k / p*_k) for every bet and bin, rounded down to the grid; ``tilts`` may be inf where f is 0.

    A bet of weight 1, on what the reference cannot rule out, neither wins nor loses.
    """
    weight = weights[..., None]
    ratio = np.where(np.isinf(tilts), 1.0, tilts)
    projected = np.where(weight < 1, 1 + weight * (ratio - 1), 1.0)
    value = np.where(np.isinf(tilts), 1 / weight, np.where(weight < 1, ratio, 1.0) / projected)
    # What can be lost is floored by making all e-values a little smaller, never by making the worst one larger.
    least = math.exp(FLOOR)
    value = np.minimum((value + least) / (1 + least), math.exp(CEILING))
    rounded: Floats = np.floor(np.log(value) / GRID) * GRID
    return rounded


def tilted(reference: Floats, scores: Floats, distance: Floats) -> Floats:
    """Tilt f exponentially along ``scores`` until sqrt(2 KL(q, f)) is ``distance`` (...), and give q / f (..., bins).

    The distance is in standard deviations: that of a normal law from itself moved by so many of them. Where f has not
    got room for it, q is all on the highest score.
    """

    def ratio(slope: Floats) -> Floats:
        exponent = slope[..., None] * scores
        top = np.where(reference > 0, exponent, -np.inf).max(-1, keepdims=True)
        power = np.exp(np.minimum(exponent - top, 0.0))
        over: Floats = power / (reference * power).sum(-1, keepdims=True)
        return over

    shape = np.broadcast_shapes(reference.shape, scores.shape)[:-1]
    low, high = np.zeros(shape), np.full(shape, 64.0)
    for _ in range(STEPS):
        middle = (low + high) / 2
        q = ratio(middle)
        divergence = (reference * q * np.log(np.maximum(q, 1e-300))).sum(-1)
        near = divergence < distance**2 / 2
        low, high = np.where(near, middle, low), np.where(near, high, middle)
    return ratio(low)


def neighbour_share(share: Floats, distance: Floats) -> Floats:
    """Move a probability by a distance (negative: down) in the unit of :func:`tilted`, by the arcsine law.

    >>> float(neighbour_share(np.array(0.1), np.array(0.25)).round(3))
    0.187
    """
    angle = np.clip(np.arcsin(np.sqrt(share)) + distance / 2, 0.0, math.pi / 2)
    moved: Floats = np.sin(angle) ** 2
    return moved


def e_bh_statistic(e_values: Floats) -> float:
    """Give the largest 1 / alpha at which e-BH still makes a discovery: max over j of j times the j-th largest / K.

    It is at most the mean of the e-values, and so an e-value itself (and an e-detector, if they are).
    """
    ordered = np.sort(e_values)[::-1]
    return float((ordered * np.arange(1, len(ordered) + 1)).max(initial=0.0) / max(1, len(ordered)))


def discoveries(e_values: Floats, level: float) -> Bools:
    """Tell which hypotheses e-BH rejects at ``1 / level``: (K,) bool."""
    count, order = len(e_values), np.argsort(-e_values, kind="stable")
    enough = np.flatnonzero(e_values[order] * np.arange(1, count + 1) >= count * level)
    found = np.zeros(count, dtype=np.bool_)
    found[order[: enough[-1] + 1 if len(enough) else 0]] = True
    return found


def population_stability(
    reference: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], always: Bools | None = None
) -> tuple[float, tuple[float, float]] | None:
    """Estimate the population stability index without its bias, which is (bins - 1)(1/n + 1/m), with a 95 % interval.

    That is its bias if every bin is well filled. Bins that would have fewer than ``EXPECTED`` rows in the smaller
    sample, had both samples one distribution, are pooled into one bin, except those that are ``always`` (bins,) bins of
    their own. Bins that both samples have empty are left out, and half a row is added to the others. The interval takes
    n m / (n + m) times the index to be non-central chi-squared, by its normal approximation. ``reference`` and
    ``counts`` are (bins,).

    None means that there is too little to compare: a sample without rows, one pooled bin alone, or a pooled bin with
    more than half of all rows, beside which the others do not differ significantly. The recording rules of
    ``guardhouse rules`` are the same formula.
    """
    n, m = int(reference.sum()), int(counts.sum())
    if not n or not m:
        return None
    both = reference + counts
    rare = both * min(n, m) < EXPECTED * (n + m)
    if always is not None:
        rare &= ~always
    pooled = int(both[rare].sum())
    was, now = (np.append(x[~rare], x[rare].sum()).astype(np.float64) for x in (reference, counts))
    there = was + now > 0
    was, now = was[there], now[there]
    freedom, size = len(was) - 1, n * m / (n + m)
    if pooled and (not freedom or (2 * pooled > n + m and _chi_squared_z(was, now) <= SIGNIFICANT)):
        return None
    p, q = ((x + 0.5) / (x.sum() + len(x) / 2) for x in (was, now))
    index = float(((q - p) * np.log(q / p)).sum()) - freedom * (1 / n + 1 / m)
    spread = Z95 * math.sqrt(2 * (freedom + 2 * max(0.0, index * size))) / size
    return index, (index - spread, index + spread)


def _chi_squared_z(was: Floats, now: Floats) -> float:
    """Give Wilson and Hilferty's (1931) normal deviate of chi-squared of two samples by bins, two or more."""
    n, m, freedom = was.sum(), now.sum(), len(was) - 1
    statistic = n * m * float(((now / m - was / n) ** 2 / (was + now)).sum())
    share = 2 / (9 * freedom)
    return float((np.cbrt(statistic / freedom) - 1 + share) / math.sqrt(share))
