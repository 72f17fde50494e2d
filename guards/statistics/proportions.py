"""Proportions with their confidence intervals."""

from dataclasses import dataclass

from scipy.stats import binomtest

__all__ = ["Proportion", "proportion", "with_interval"]


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share of rows, with its Clopper-Pearson 95 % interval."""

    value: float
    low: float
    high: float
    hits: int
    n: int


def proportion(hits: int, n: int) -> Proportion:
    """Estimate a share from ``hits`` of ``n`` rows; ``n`` must not be 0."""
    interval = binomtest(hits, n).proportion_ci(confidence_level=0.95, method="exact")
    return Proportion(hits / n, float(interval.low), float(interval.high), hits, n)


def with_interval(share: Proportion) -> tuple[str, str]:
    """Print a share and its interval in percent."""
    return f"{share.value:.2%} ({share.hits}/{share.n})", f"[{share.low:.2%}, {share.high:.2%}]"
