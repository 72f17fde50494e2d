"""The area under the ROC curve with its confidence interval, also of a difference between two detectors."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from guards.statistics.measured import Measured

__all__ = ["Area", "area", "area_difference"]

Floats = npt.NDArray[np.float64]
Z = float(norm.ppf(0.975))
STEPS = 60


@dataclass(frozen=True, slots=True)
class Area(Measured):
    """An area, or a difference between two areas, with its 95 % interval."""


def area(clean: Floats, suspect: Floats) -> Area:
    """Estimate the probability that a suspect row scores above a clean row; a tie counts one half.

    ``clean`` (n,) and ``suspect`` (m,) are scores, larger is stranger; neither may be empty. The interval takes the
    wider end of two intervals. DeLong, DeLong & Clarke-Pearson 1988, on the logit scale, assumes no shape of the
    scores, but is too narrow near 0 and 1, and has no width if the rows are fully separated. Newcombe 2006 (method 5)
    has width everywhere, but its variance (Hanley & McNeil 1982) assumes a shape.
    """
    over_clean, over_suspect = _placements(clean, suspect)
    value = float(over_clean.mean())
    low, high = _newcombe(value, len(suspect), len(clean))
    variance = _variance(over_clean) + _variance(over_suspect)
    if 0 < value < 1 and math.isfinite(variance):
        reach = Z * math.sqrt(variance) / (value * (1 - value))
        low, high = min(low, float(expit(logit(value) - reach))), max(high, float(expit(logit(value) + reach)))
    return Area(value, low, high)


def area_difference(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> Area:
    """Estimate the area of the second detector minus the area of the first detector, measured on the same rows.

    Each pair holds the scores of the same clean rows (n,) and of the same suspect rows (m,). The interval is put
    together from the intervals of the two areas and their correlation (Zou & Donner 2008), which is DeLong's; so the
    interval has width even if both detectors separate all rows.
    """
    one, two = area(*first), area(*second)
    (suspect_1, clean_1), (suspect_2, clean_2) = _placements(*first), _placements(*second)
    shared = _covariance(suspect_1, suspect_2) + _covariance(clean_1, clean_2)
    variances = [_variance(a) + _variance(b) for a, b in ((suspect_1, clean_1), (suspect_2, clean_2))]
    scale = math.sqrt(variances[0] * variances[1])
    correlation = min(1.0, max(-1.0, shared / scale)) if 0 < scale < math.inf else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    value = two.value - one.value
    low = value - reach(two.value - two.low, one.high - one.value)
    high = value + reach(two.high - two.value, one.value - one.low)
    return Area(value, low, high)


def _placements(clean: Floats, suspect: Floats) -> tuple[Floats, Floats]:
    """Give each suspect row's share of clean rows below (m,), and each clean row's share of suspect rows above (n,)."""
    m, n = len(suspect), len(clean)
    ranks = rankdata(np.concatenate([suspect, clean]))
    return (ranks[:m] - rankdata(suspect)) / n, 1 - (ranks[m:] - rankdata(clean)) / m


def _variance(parts: Floats) -> float:
    """Estimate the variance of the parts' mean; it is not known from a single part."""
    return float(parts.var(ddof=1)) / len(parts) if len(parts) > 1 else math.inf


def _covariance(first: Floats, second: Floats) -> float:
    """Estimate the covariance of two means over the same rows."""
    return float(np.cov(first, second)[0, 1]) / len(first) if len(first) > 1 else math.inf


def _newcombe(value: float, m: int, n: int) -> tuple[float, float]:
    """Give the areas whose distance from ``value`` is Z of their own standard errors."""
    half = (m + n) / 2 - 1

    def beyond(area: float) -> bool:
        variance = area * (1 - area) * (1 + half * (1 - area) / (2 - area) + half * area / (1 + area)) / (m * n)
        return (value - area) ** 2 > Z * Z * variance

    return _edge(beyond, 0.0, value), _edge(beyond, 1.0, value)


def _edge(beyond: Callable[[float], bool], outside: float, inside: float) -> float:
    """Halve the way between a place that is beyond the interval and a place within the interval."""
    for _ in range(STEPS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if beyond(middle) else (outside, middle)
    return inside
