"""The difference between two shares of the same rows, with its confidence interval."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guards.statistics.measured import Measured
from guards.statistics.proportions import score_interval

__all__ = ["Difference", "difference_of_shares"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Difference(Measured):
    """A difference between two shares, with its 95 % interval."""


def difference_of_shares(first: Bools, second: Bools) -> Difference:
    """Estimate the share of rows (n,) marked by ``second`` minus the share marked by ``first``; n must not be 0.

    The interval is put together from Wilson's intervals of the two shares and the correlation of the marks:
    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 8 with its continuity correction left out.
    """
    n = len(first)
    one, two = float(first.mean()), float(second.mean())
    (low_1, high_1), (low_2, high_2) = score_interval(one, n), score_interval(two, n)
    scale = math.sqrt(one * (1 - one) * two * (1 - two))
    correlation = (float((first & second).mean()) - one * two) / scale if scale else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    value = two - one
    return Difference(value, value - reach(two - low_2, high_1 - one), value + reach(high_2 - two, one - low_1))
