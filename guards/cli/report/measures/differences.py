"""Differences between two figures, with intervals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Difference", "difference", "difference_of_losses"]

Floats = npt.NDArray[np.float64]
Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference with its 95 % interval."""

    value: float
    low: float
    high: float


def difference(first: float, interval: tuple[float, float], second: float, other: tuple[float, float]) -> Difference:
    """Subtract a figure from another figure of independent rows, each with its 95 % interval.

    The interval is recovered from the two intervals. Zou & Donner 2008, "Construction of confidence limits about effect
    measures"; for two proportions it is Newcombe's interval of 1998.
    """
    value = first - second
    low = value - ((first - interval[0]) ** 2 + (other[1] - second) ** 2) ** 0.5
    high = value + ((interval[1] - first) ** 2 + (second - other[0]) ** 2) ** 0.5
    return Difference(value, low, high)


def difference_of_losses(first: Floats, second: Floats) -> Difference:
    """Give the mean of first - second over the same rows (n,), with the normal 95 % interval.

    The two are losses, 0 or 1, or squared errors in units of the label's variance. As in Agresti & Min 2005, the
    variance counts one more row with the difference 1 and one more with -1, so that the interval has a width even if
    both are equal in every row.
    """
    each, n = first - second, len(first)
    widened = np.concatenate([each, [1.0, -1.0]])
    reach = Z * float(widened.std()) / n**0.5
    value = float(each.mean())
    return Difference(value, value - reach, value + reach)
