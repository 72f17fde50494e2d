"""What may happen to a stream of standard normal numbers: changes, and dependence that is no change."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["CHANGES", "DEPENDENT", "Change"]

Floats = npt.NDArray[np.float64]
Change = Callable[[Floats, np.random.Generator], Floats]
DAY = 10_000
CHANGES: dict[str, Change] = {
    "mean + 0.35": lambda x, _: x + 0.35,
    "mean + 2": lambda x, _: x + 2,
    "deviation x 1.25": lambda x, _: x * 1.25,
    "deviation x 0.8": lambda x, _: x * 0.8,
    "one row in five stuck": lambda x, rng: np.where(rng.random(len(x)) < 1 / 5, 0.3, x),
    "2 % missing": lambda x, rng: np.where(rng.random(len(x)) < 2 / 100, np.nan, x),
    "1 % out of range": lambda x, rng: np.where(rng.random(len(x)) < 1 / 100, 9.0, x),
    "skewed": lambda x, _: (x + 0.5 * (x * x - 1)) / math.sqrt(1.5),
}


def autoregressive(coefficient: float) -> Change:
    """Make each row depend on the row before, with the same law for every row."""

    def change(noise: Floats, _: np.random.Generator) -> Floats:
        from scipy.signal import lfilter  # noqa: PLC0415 - slow to import, and not always wanted

        return np.asarray(lfilter([math.sqrt(1 - coefficient**2)], [1, -coefficient], noise))

    return change


def daily(size: float) -> Change:
    """Move the mean up and down over each day's rows."""
    return lambda x, _: x + size * np.sin(2 * np.pi * np.arange(len(x)) / DAY)


DEPENDENT: dict[str, Change] = {
    **{f"autocorrelation {c}": autoregressive(c) for c in (0.5, 0.9, 0.99)},
    **{f"daily cycle of {size} sd": daily(size) for size in (0.25, 0.5)},
}
