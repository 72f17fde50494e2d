"""Turns arrays of figures of groups into named statistics."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guards.monitors.base import Statistic
from guards.monitors.groups.group_counts import GroupCounts

__all__ = ["ALPHA", "Measured", "by_cell", "by_label", "column", "statistic"]

ALPHA = 0.05
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
UNLABELLED = frozenset(
    ["accuracy", "accuracy_weighted", "accuracy_bounds", "accuracy_difference", "calibration_gap", "label_coverage",
     "mean_error"]
)  # fmt: skip
"""Statistics that do not belong to a single label."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Counts of groups, their names, and the statistics that may raise the alarm; a ``regression`` has one label."""

    counts: GroupCounts
    attribute: str
    levels: tuple[str, ...]
    labels: tuple[str, ...]
    positives: tuple[str, ...]
    alarm: tuple[str, ...]
    tolerance: float | None
    minimum: int
    regression: bool

    @property
    def declared(self) -> int:
        """The number of groups that are compared: all groups but ``other`` and ``unknown``."""
        return len(self.levels) - 2


def by_cell(
    measured: Measured, name: str, value: Floats, interval: tuple[Floats, Floats], n: Integers
) -> list[Statistic]:
    """Turn arrays (g, k), or (g, 1) for a figure without labels, into a statistic for each group and label."""
    of_label = value.shape[1] == len(measured.positives) and name not in UNLABELLED
    found = []
    for g, group in enumerate(measured.levels):
        for k in range(value.shape[1]):
            labels = {"attribute": measured.attribute, "group": group}
            if of_label:
                labels["label"] = measured.positives[k]
            bounds = (interval[0][g, k], interval[1][g, k])
            found.append(statistic(name, value[g, k], bounds, int(n[g, k]), labels))
    return found


def by_label(
    measured: Measured, name: str, value: Floats, interval: tuple[Floats, Floats], n: Integers
) -> list[Statistic]:
    """Turn arrays (k,) of figures over the compared groups into a statistic for each label."""
    found = []
    for k in range(len(value)):
        labels = {"attribute": measured.attribute}
        if name not in UNLABELLED:
            labels["label"] = measured.positives[k]
        found.append(statistic(name, value[k], (interval[0][k], interval[1][k]), int(n[k]), labels))
    return found


def statistic(
    name: str, value: npt.ArrayLike, interval: tuple[npt.ArrayLike, npt.ArrayLike], n: int, labels: dict[str, str]
) -> Statistic:
    """Make a statistic of plain floats; a NaN becomes None, and without rows there is no interval."""
    low, high = float(np.asarray(interval[0])), float(np.asarray(interval[1]))
    figure = float(np.asarray(value))
    known = bool(n) and not (np.isnan(low) or np.isnan(high))
    return Statistic(name, None if np.isnan(figure) else figure, (low, high) if known else None, n, labels)


def column(interval: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Turn bounds (g,) into bounds (g, 1)."""
    return interval[0][:, None], interval[1][:, None]
