"""Ratios of figures that were measured side by side, round by round."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Spread", "ratios", "spread"]


@dataclass(frozen=True)
class Spread:
    """A median over rounds, and an interval: the least and the greatest.

    If rounds are independent, the interval of n rounds misses the true median with a probability of 2**(1 - n): 6 % for
    five rounds. It is the sign test's interval, and supposes nothing of how the figures are distributed.
    """

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        """Write the median, with the interval if there is more than one round."""
        if self.least == self.greatest:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} [{self.least:.3g}, {self.greatest:.3g}]"


def spread(values: Sequence[float]) -> Spread:
    """Return the median of values with their least and greatest.

    Raises:
        ValueError: there are none.
    """
    return Spread(statistics.median(values), min(values), max(values)) if values else _none()


def _none() -> Spread:
    raise ValueError("there are no rounds to compare")


def ratios(figures: Sequence[float], beside: Sequence[float]) -> Spread:
    """Divide figures by other figures of the same rounds; without another figure, the ratio is nan."""
    pairs = zip(figures, beside, strict=True)
    return spread([figure / other if other else math.nan for figure, other in pairs])
