"""Confidence sequences for the difference and the ratio of two groups' rates, computed from four counts.

For a null point (q1, q2) the evidence is a mixture of likelihood ratios, and so a martingale, in whatever order the
rows of the two groups come. For a null line (all pairs with the same difference, or the same ratio) the evidence is the
minimum over the line, which is an e-process (Robbins 1970; Ramdas, Grünwald, Vovk & Shafer 2023, "Game-theoretic
statistics and safe anytime-valid inference"). A plain product of two beta-binomial mixtures pays log(n) for the rate
that the groups share. So most of the mixture's weight lies on alternatives that keep the shared rate and move the two
groups apart from it, as in Turner & Grünwald 2022, "Safe testing of two proportions". The rest of the weight lies on
the plain product, which keeps the minimum near the data.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from guards.statistics.confidence_sequences import JEFFREYS, Floats, crossing, log_beta

__all__ = ["difference_interval", "log_evidence", "ratio_interval"]

GAPS = 0.4 * 0.55 ** np.arange(10)
GAP_WEIGHTS = np.array([0.3, 3.0, 3.0, 1.5, 0.6, 0.3, 0.3, 0.2, 0.2, 0.2])
MOVES, MOVE_WEIGHTS = np.array([0.1, 0.5, 0.9]), np.array([0.1, 0.8, 0.1])
"""The second group's part of a gap: a half suits groups of equal size; a large part suits a small second group."""
PRODUCT = 0.05
"""The weight of the product of two beta-binomial mixtures."""
EDGE = 1e-7
STEPS, LOOKS, CLOSER = 15, 41, 9
REACH = 20.0
NEAR = 24
Line = Callable[[Floats], tuple[Floats, Floats, Floats, Floats]]
"""Maps a parameter (s,) to (a1, b1, a2, b2): on the null line q1 = a1 + b1 m and q2 = a2 + b2 m for a nuisance m."""


def _alternatives() -> tuple[Floats, Floats, Floats]:
    weights = np.outer(GAP_WEIGHTS / GAP_WEIGHTS.sum() / 2, MOVE_WEIGHTS).ravel() * (1 - PRODUCT)
    return np.outer(GAPS, 1 - MOVES).ravel(), np.outer(-GAPS, MOVES).ravel(), np.log(weights)


FIRST, SECOND, LOG_WEIGHTS = _alternatives()


def difference_interval(
    first: tuple[npt.ArrayLike, npt.ArrayLike], second: tuple[npt.ArrayLike, npt.ArrayLike], alpha: npt.ArrayLike = 0.05
) -> tuple[Floats, Floats]:
    """Bound the first rate less the second, each given as (hits, rows); without rows of both groups, by -1 and 1.

    >>> low, high = difference_interval((1369 + 805, 3696), (505 + 349, 2454))
    >>> f"{low:.3f} {high:.3f}"
    '0.192 0.287'
    """

    def line(d: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        one = np.ones_like(d)
        return d, one, np.zeros_like(d), one

    h1, n1, h2, n2 = _counts(first, second)
    estimate = _rate(h1, n1) - _rate(h2, n2)
    return _interval(line, (h1, n1, h2, n2), np.asarray(alpha, np.float64), estimate, (-1.0, 1.0))


def ratio_interval(
    first: tuple[npt.ArrayLike, npt.ArrayLike], second: tuple[npt.ArrayLike, npt.ArrayLike], alpha: npt.ArrayLike = 0.05
) -> tuple[Floats, Floats]:
    """Bound the first rate over the second, each given as (hits, rows); the upper bound may be infinite."""

    def line(part: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        zero = np.zeros_like(part)
        return zero, part, zero, 1 - part

    h1, n1, h2, n2 = _counts(first, second)
    a, b = _rate(h1, n1), _rate(h2, n2)
    estimate = np.divide(a, a + b, out=np.full(a.shape, 0.5), where=a + b > 0)
    low, high = _interval(line, (h1, n1, h2, n2), np.asarray(alpha, np.float64), estimate, (0.0, 1.0))
    with np.errstate(divide="ignore"):
        return low / (1 - low), np.where(high < 1, high / (1 - high), np.inf)


def log_evidence(h1: Floats, n1: Floats, h2: Floats, n2: Floats, q1: Floats, q2: Floats) -> Floats:
    """Weigh counts (s,) against null points (s, m): the logarithm of the mixture of likelihood ratios (s, m).

    Only the alternatives on the data's side of the null are summed. The alternatives on the other side have the other
    half of the weight, and would add little.
    """
    side = np.where((_rate(h1, n1) - _rate(h2, n2))[:, None] >= q1 - q2, 1.0, -1.0)[..., None]
    h1, n1, h2, n2 = (v[:, None] for v in (h1, n1, h2, n2))
    null = _log_likelihood(h1, n1, q1) + _log_likelihood(h2, n2, q2)
    product = log_beta(JEFFREYS + h1, JEFFREYS + n1 - h1) + log_beta(JEFFREYS + h2, JEFFREYS + n2 - h2)
    product = product - 2 * log_beta(np.array(JEFFREYS), np.array(JEFFREYS)) + np.log(PRODUCT) - null
    apart = _log_likelihood(h1[..., None], n1[..., None], q1[..., None] + side * FIRST)
    apart += _log_likelihood(h2[..., None], n2[..., None], q2[..., None] + side * SECOND)
    apart += LOG_WEIGHTS - null[..., None]
    highest = np.maximum(apart.max(-1), product)
    return np.asarray(
        highest + np.log(np.exp(apart - highest[..., None]).sum(-1) + np.exp(product - highest)), np.float64
    )


def least_log_evidence(line: Line, counts: tuple[Floats, Floats, Floats, Floats], at: Floats, alpha: Floats) -> Floats:
    """Find the least evidence (s,) over each null line: near the line's likeliest point, since evidence grows away."""
    h1, n1, h2, n2 = counts
    a1, b1, a2, b2 = line(at)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = [
            np.where(b > 0, (np.array([[0.0], [1.0]]) - a) / b, [[-np.inf], [np.inf]]) for a, b in ((a1, b1), (a2, b2))
        ]
    low, high = np.maximum(ends[0][0], ends[1][0]), np.minimum(ends[0][1], ends[1][1])
    left, right = low.copy(), high.copy()
    for _ in range(NEAR):
        m = (left + right) / 2
        q1, q2 = _inside(a1 + b1 * m), _inside(a2 + b2 * m)
        slope = b1 * (h1 / q1 - (n1 - h1) / (1 - q1)) + b2 * (h2 / q2 - (n2 - h2) / (1 - q2))
        left, right = np.where(slope > 0, m, left), np.where(slope > 0, right, m)
    best = (left + right) / 2
    q1, q2 = _inside(a1 + b1 * best), _inside(a2 + b2 * best)
    information = b1 * b1 * n1 / (q1 * (1 - q1)) + b2 * b2 * n2 / (q2 * (1 - q2))
    reach = np.sqrt(2 * (REACH - np.log(alpha)) / np.maximum(information, 1.0))
    reach = np.minimum(reach, high - low)

    def evidence(m: Floats) -> Floats:
        q = [_inside(a[:, None] + b[:, None] * m) for a, b in ((a1, b1), (a2, b2))]
        return log_evidence(h1, n1, h2, n2, q[0], q[1])

    for looks in (LOOKS, CLOSER):
        m = np.clip(best[:, None] + reach[:, None] * np.linspace(-1, 1, looks), low[:, None], high[:, None])
        found = evidence(m)
        best = np.take_along_axis(m, found.argmin(1)[:, None], 1)[:, 0]
        reach = reach * 2 / (looks - 1)
    return np.asarray(found.min(1), np.float64)


def _interval(
    line: Line,
    counts: tuple[Floats, Floats, Floats, Floats],
    alpha: Floats,
    estimate: Floats,
    ends: tuple[float, float],
) -> tuple[Floats, Floats]:
    known = (counts[1] > 0) & (counts[3] > 0)
    low, high = np.full(estimate.shape, ends[0]), np.full(estimate.shape, ends[1])
    if not known.any():
        return low, high
    some = (counts[0][known], counts[1][known], counts[2][known], counts[3][known])
    each, inside = np.broadcast_to(alpha, estimate.shape)[known], estimate[known]

    def evidence(at: Floats) -> Floats:
        return least_log_evidence(line, some, at, each)

    for bound, end in ((low, ends[0]), (high, ends[1])):
        outside = np.full(inside.shape, end)
        bound[known] = crossing(evidence, -np.log(each), inside=inside, outside=outside, steps=STEPS)
    return low, high


def _counts(
    first: tuple[npt.ArrayLike, npt.ArrayLike], second: tuple[npt.ArrayLike, npt.ArrayLike]
) -> tuple[Floats, Floats, Floats, Floats]:
    h1, n1, h2, n2 = (np.asarray(v, np.float64) for v in np.broadcast_arrays(*first, *second))
    return h1, n1, h2, n2


def _rate(hits: Floats, rows: Floats) -> Floats:
    rates: Floats = np.divide(hits, rows, out=np.full(hits.shape, 0.5), where=rows > 0)
    return rates


def _inside(p: Floats) -> Floats:
    return np.clip(p, EDGE, 1 - EDGE)


def _log_likelihood(hits: Floats, rows: Floats, p: Floats) -> Floats:
    p = _inside(p)
    return np.asarray(hits * np.log(p) + (rows - hits) * np.log1p(-p), np.float64)
