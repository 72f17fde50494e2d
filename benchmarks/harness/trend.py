"""Whether a figure that was read again and again grows: the slope of a line, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Trend", "trend"]

BLOCKS = 12
"""Neighbouring samples are alike. So a line is drawn through the means of so many blocks, and not through samples."""
LEVEL = 0.95


@dataclass(frozen=True)
class Trend:
    """How much a figure grows from the first to the last sample, in its own unit, with the interval of the growth."""

    mean: float
    growth: float
    least: float
    greatest: float

    @property
    def is_flat(self) -> bool:
        """Whether the interval holds no growth at all, or only a shrinkage."""
        return self.least <= 0

    def __str__(self) -> str:
        """Write the growth and its interval."""
        return f"{self.growth:+.3g} [{self.least:+.3g}, {self.greatest:+.3g}]"


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a line to samples by least squares, over means of blocks of equal numbers of samples.

    Raises:
        ValueError: there are fewer than three samples.
    """
    if len(values) < 3:  # noqa: PLR2004 - two points are always on a line
        raise ValueError(f"a trend needs three samples or more, got {len(values)}")
    blocks = min(BLOCKS, len(values))
    x = np.array([block.mean() for block in np.array_split(np.asarray(seconds, float), blocks)])
    y = np.array([block.mean() for block in np.array_split(np.asarray(values, float), blocks)])
    away, spread = x - x.mean(), float(((x - x.mean()) ** 2).sum())
    slope = float(away @ y) / spread
    rest = y - y.mean() - slope * away
    error = float(np.sqrt((rest**2).sum() / (blocks - 2) / spread))
    margin = float(stats.t.ppf((1 + LEVEL) / 2, blocks - 2)) * error
    length = float(seconds[-1] - seconds[0])
    return Trend(float(y.mean()), slope * length, (slope - margin) * length, (slope + margin) * length)
