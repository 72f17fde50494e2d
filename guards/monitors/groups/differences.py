"""The largest difference and the smallest ratio of several groups' rates, with intervals that hold at all times."""

from itertools import combinations

import numpy as np
import numpy.typing as npt

from guards.statistics.confidence_sequences import rate_interval
from guards.statistics.rate_comparisons import difference_interval, ratio_interval

__all__ = ["differences", "least", "most", "rate", "ratios"]

MOST_PAIRS = 64
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def differences(hits: Integers, n: Integers, alpha: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Bound the largest difference between any two groups' rates (g, k): value, low and high (k,).

    ``alpha`` (k,) is divided among the pairs of groups, if there are few. If there are many pairs, ``alpha`` is divided
    among the groups, and the bounds follow from an interval for each group's rate.
    """
    rates = rate(hits, n)
    value = most(rates) - least(rates)
    if len(hits) * (len(hits) - 1) // 2 * hits.shape[1] <= MOST_PAIRS:
        i, j = _pairs(len(hits))
        low, high = difference_interval((hits[i], n[i]), (hits[j], n[j]), np.asarray(alpha) / len(i))
        both = (n[i] > 0) & (n[j] > 0)
        lowest = np.where(both, np.maximum(np.maximum(low, -high), 0), 0).max(0)
        highest = np.where(both, np.maximum(abs(low), abs(high)), 0).max(0)
    else:
        low, high = _present(rate_interval(hits, n, np.asarray(alpha) / len(hits)), n)
        lowest, highest = np.maximum(most(low) - least(high), 0), most(high) - least(low)
    return _of_two_or_more(n, value, np.fmin(lowest, value), np.fmax(highest, value))


def ratios(hits: Integers, n: Integers, alpha: float) -> tuple[Floats, Floats, Floats]:
    """Bound the smallest ratio of any two groups' rates (g, k): value, low and high (k,)."""
    rates = rate(hits, n)
    largest = most(rates)
    value = np.divide(least(rates), largest, out=np.full(largest.shape, np.nan), where=largest > 0)
    if len(hits) * (len(hits) - 1) // 2 * hits.shape[1] <= MOST_PAIRS:
        i, j = _pairs(len(hits))
        low, high = ratio_interval((hits[i], n[i]), (hits[j], n[j]), alpha / len(i))
        both = (n[i] > 0) & (n[j] > 0)
        with np.errstate(divide="ignore"):
            lowest = np.where(both, np.minimum(low, 1 / high), 1).min(0)
            highest = np.where(both, np.minimum(1, np.where(low > 1, 1 / low, high)), 1).min(0)
    else:
        low, high = _present(rate_interval(hits, n, alpha / len(hits)), n)
        lowest = np.divide(least(low), most(high))
        top = most(low)
        highest = np.minimum(1, np.divide(least(high), top, out=np.ones(top.shape), where=top > 0))
    return _of_two_or_more(n, value, np.fmin(lowest, value), np.fmax(highest, value))


def rate(hits: npt.ArrayLike, n: npt.ArrayLike) -> Floats:
    """Divide hits by rows; without rows the rate is NaN."""
    h, rows = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(n, np.float64))
    rates: Floats = np.divide(h, rows, out=np.full(h.shape, np.nan), where=rows > 0)
    return rates


def _pairs(groups: int) -> tuple[list[int], list[int]]:
    pairs = list(combinations(range(groups), 2))
    return [i for i, _ in pairs], [j for _, j in pairs]


def _present(interval: tuple[Floats, Floats], n: Integers) -> tuple[Floats, Floats]:
    return np.where(n > 0, interval[0], np.nan), np.where(n > 0, interval[1], np.nan)


def _of_two_or_more(n: Integers, value: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats, Floats]:
    """Replace figures by NaN if fewer than two groups have rows."""
    several = (n > 0).sum(0) > 1
    return np.where(several, value, np.nan), np.where(several, low, np.nan), np.where(several, high, np.nan)


def most(values: Floats) -> Floats:
    """Take the largest value over the groups that have rows; fmax ignores NaN without a warning."""
    return np.asarray(np.fmax.reduce(values, axis=0))


def least(values: Floats) -> Floats:
    """Take the smallest value over the groups that have rows."""
    return np.asarray(np.fmin.reduce(values, axis=0))
