"""Proportions with their confidence intervals."""

import math
from dataclasses import dataclass

from scipy.stats import binomtest, norm

from guards.statistics.measured import Measured

__all__ = ["Proportion", "proportion", "score_interval", "with_interval"]

Z = float(norm.ppf(0.975))


@dataclass(frozen=True, slots=True)
class Proportion(Measured):
    """A share of rows, with its Clopper-Pearson interval, of 95 % if nothing else is said."""

    hits: int
    n: int


def proportion(hits: int, n: int, *, level: float = 0.95) -> Proportion:
    """Estimate a share from ``hits`` of ``n`` rows; ``n`` must not be 0."""
    interval = binomtest(hits, n).proportion_ci(confidence_level=level, method="exact")
    return Proportion(hits / n, float(interval.low), float(interval.high), hits, n)


def score_interval(value: float, n: int) -> tuple[float, float]:
    """Give Wilson's 95 % interval (1927) of a figure in [0, 1] that varies at most as a share of n rows does."""
    wide = 1 + Z * Z / n
    centre, reach = value + Z * Z / (2 * n), Z * math.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n))
    return max(0.0, (centre - reach) / wide), min(1.0, (centre + reach) / wide)


def with_interval(share: Proportion) -> tuple[str, str]:
    """Print a share and its interval in percent."""
    return f"{share.value:.2%} ({share.hits}/{share.n})", f"[{share.low:.2%}, {share.high:.2%}]"
