"""What is remembered of answered rows until the truth of them is known: never the rows themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["UNANSWERED", "Records"]

UNANSWERED = -1
"""The predicted class of a row that was abstained from or rejected; regression has NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Answered rows, all arrays (n,).

    ``predicted`` and ``actual`` are class indices (int64), or values (float64) for regression; ``actual`` is None as
    long as the truth is unknown. ``action`` is of :class:`guards.types.Action`. ``confidence`` is the calibrated
    probability of the predicted class, NaN where there is none. ``covered`` says whether the prediction set or
    interval held the truth: 1, 0, or -1 where there was no set or the truth is unknown. ``groups`` holds the level
    codes of every monitor that has groups, by the monitor's name. ``weight`` is 1 / the probability with which the
    truth of such a row comes to be known, NaN where that was not given.
    """

    predicted: npt.NDArray[Any]
    action: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    groups: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    actual: npt.NDArray[Any] | None = None
    covered: npt.NDArray[np.int64] | None = None
    weight: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.predicted)
