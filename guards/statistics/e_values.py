"""E-values against a reference sample. The null holds every distribution that the reference cannot rule out.

A reference of n rows determines the probabilities p of bins only up to its sampling error. A test that takes the
reference's frequencies f for the true probabilities would detect that error as drift. So a bet on an alternative q is
paid as if the true distribution were p*, the point closest to q in a ball around f (the reverse information
projection): q_k / p*_k has expectation at most 1 under every distribution in the ball, and so is an e-value. In the
ball of all p with KL(f, p) <= b, p* is a mixture (1 - w) f + w q, so that only the number w has to be found.

How large must the ball be? The bet is invalid on a half space of distributions, which lies outside the ball. By
Chernoff's bound the probability, over references, that the true distribution lies in this half space is at most
exp(-n b) for one bet fixed beforehand. The bound is exact in two cases: if the bins are cut at order statistics, whose
masses follow a Dirichlet distribution; and for the share of one bin of a fixed partition, which is binomial. So
b = log(number of bets / alpha) / n holds for all bets at once with probability 1 - alpha, whatever the number of bins.
A box of Clopper-Pearson intervals would have to hold for every bin, and would cost much more power.

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
"""Log e-values are rounded down to multiples of this number: sums of thousands are exact, in any order."""
FLOOR, CEILING = -16.0, 16.0
STEPS = 60
Z95 = 1.959963984540054
EXPECTED = 5.0
"""The least expected rows in a bin for chi-squared and for the stability index (Cochran 1954)."""
SIGNIFICANCE, SIGNIFICANT = 1e-6, 4.7534
"""The significance level that excludes chance, and the same level as a quantile of the normal distribution."""


def null_weights(reference: Floats, tilts: Floats, bound: Floats) -> Floats:
    """Find the weight w (...) of each bet's projection (1 - w) f + w q; w is 1 if q itself lies inside the ball.

    ``reference`` (..., bins) is f, ``tilts`` (..., bins) is q / f, and any number if f is 0: such a bin only takes the
    mass of q that the other bins lack. ``bound`` (...) is the ball's radius in nats.
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
    # Take the end of the interval that lies outside the ball: a slightly larger ball is still valid.
    weights: Floats = np.where(outside, high, 1.0)
    return weights


def log_e_values(tilts: Floats, weights: Floats) -> Floats:
    """Give log(q_k / p*_k) for every bet and bin, rounded down to the grid; ``tilts`` may be inf if f is 0.

    A bet of weight 1 neither wins nor loses: the reference cannot rule out its alternative.
    """
    weight = weights[..., None]
    ratio = np.where(np.isinf(tilts), 1.0, tilts)
    projected = np.where(weight < 1, 1 + weight * (ratio - 1), 1.0)
    value = np.where(np.isinf(tilts), 1 / weight, np.where(weight < 1, ratio, 1.0) / projected)
    # To limit a bet's loss, all its e-values are made a little smaller. Raising only the smallest would be invalid.
    least = math.exp(FLOOR)
    value = np.minimum((value + least) / (1 + least), math.exp(CEILING))
    rounded: Floats = np.floor(np.log(value) / GRID) * GRID
    return rounded


def tilted(reference: Floats, scores: Floats, distance: Floats) -> Floats:
    """Tilt f exponentially along ``scores`` until sqrt(2 KL(q, f)) is ``distance`` (...), and give q / f (..., bins).

    The distance is in standard deviations: the distance between a normal distribution and the same distribution moved
    by so many of its standard deviations. If no tilt of f reaches the distance, q is all on the highest score.
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
    """Move a probability by a distance (negative: down) in the unit of :func:`tilted`, by the arcsine transform.

    >>> float(neighbour_share(np.array(0.1), np.array(0.25)).round(3))
    0.187
    """
    angle = np.clip(np.arcsin(np.sqrt(share)) + distance / 2, 0.0, math.pi / 2)
    moved: Floats = np.sin(angle) ** 2
    return moved


def e_bh_statistic(e_values: Floats) -> Floats:
    """Give the largest 1 / alpha at which e-BH still makes a discovery: max over j of j times the j-th largest / K.

    ``e_values`` is (..., K), and the statistic (...).

    The statistic is at most the mean of the e-values, and so is an e-value itself. For e-detectors it is an e-detector.
    """
    count = e_values.shape[-1]
    ordered = np.sort(e_values, axis=-1)[..., ::-1]
    statistic: Floats = (ordered * np.arange(1, count + 1)).max(-1, initial=0.0) / max(1, count)
    return statistic


def discoveries(e_values: Floats, level: float) -> Bools:
    """Return which hypotheses e-BH rejects at the error rate ``1 / level``: (K,) bool."""
    count, order = len(e_values), np.argsort(-e_values, kind="stable")
    enough = np.flatnonzero(e_values[order] * np.arange(1, count + 1) >= count * level)
    found = np.zeros(count, dtype=np.bool_)
    found[order[: enough[-1] + 1 if len(enough) else 0]] = True
    return found


def population_stability(
    reference: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], always: Bools | None = None
) -> tuple[float, tuple[float, float]] | None:
    """Estimate the population stability index without its bias, with a 95 % interval.

    The bias is (bins - 1)(1/n + 1/m) if every bin is well filled. Bins whose expected count in the smaller sample,
    under one common distribution, is below ``EXPECTED`` are pooled into one bin; a bin that ``always`` (bins,) marks is
    never pooled. Bins that are empty in both samples are left out, and half a row is added to every other bin. The
    interval assumes that n m / (n + m) times the index is non-central chi-squared, and uses the normal approximation of
    that distribution. ``reference`` and ``counts`` are (bins,).

    None means that there is too little to compare: a sample has no rows; or only the pooled bin is left; or the pooled
    bin has more than half of all rows, and the other bins do not differ significantly. The recording rules of
    ``guardhouse rules`` use the same formula.
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
    """Give chi-squared of two samples in two or more bins as a normal deviate (Wilson & Hilferty 1931)."""
    n, m, freedom = was.sum(), now.sum(), len(was) - 1
    statistic = n * m * float(((now / m - was / n) ** 2 / (was + now)).sum())
    share = 2 / (9 * freedom)
    return float((np.cbrt(statistic / freedom) - 1 + share) / math.sqrt(share))
