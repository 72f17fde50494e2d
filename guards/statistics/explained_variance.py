"""The share of a value's variance that a model explains, R2, with its confidence interval."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from guards.statistics.measured import Measured

__all__ = ["Explained", "r2"]

Floats = npt.NDArray[np.float64]
Z = float(norm.ppf(0.975))


@dataclass(frozen=True, slots=True)
class Explained(Measured):
    """R2 with its 95 % interval; both may be below 0, if the mean of the rows is a better guess than the model."""


def r2(y: Floats, value: Floats) -> Explained | None:
    """Estimate R2 of a model's values (n,) for the true values ``y`` (n,); None if ``y`` does not vary.

    R2 is one minus a ratio of two means: of the squared errors, and of the squared distances from the mean. The
    interval is the delta method's for such a ratio, so it holds for many rows, whatever the errors' distribution is.
    """
    errors, spread = (y - value) ** 2, (y - y.mean()) ** 2
    total = float(spread.sum())
    if total <= 0:
        return None
    ratio = float(errors.sum()) / total
    reach = Z * float(np.std(errors - ratio * spread)) / (math.sqrt(len(y)) * float(spread.mean()))
    return Explained(1 - ratio, 1 - ratio - reach, min(1.0, 1 - ratio + reach))
