"""The counts of groups: parts of one flat array of integers, so that all counts are added in one operation."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from guards.monitors.answered_rows import Records
from guards.statistics.exact_sums import ERRORS, SQUARES
from guards.types import Action

__all__ = ["MICRO", "OF_ERRORS", "GroupCounts", "add_errors", "error_moments", "finite", "micro"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
MICRO = 1_000_000
"""Sums of probabilities and weights are kept in millionths, rounded row by row: integers add exactly in any order."""
LARGEST = 1000.0
"""A larger weight counts as this weight, so that no sum of squares overflows within 9e6 such rows."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupCounts:
    """Counts of g groups and k labels; the predicted label k stands for rows without an answer.

    ``predictions`` (g, k + 1) and ``actions`` (g, 4) count rows when they are answered. ``outcomes`` (g, k + 1, k)
    counts rows whose outcome is known, by predicted and actual label. ``weights`` and ``squared_weights`` sum, over the
    same rows, the inverse of the probability that the outcome becomes known, and the square of that inverse.
    ``residuals`` describes answered rows whose outcome is known. For a classification it is (g, 3): the number of rows,
    and the sum and the sum of squares of confidence less correctness. For a regression it is (g, :data:`OF_ERRORS`):
    the number of rows, and the two sums of the error in the target's unit, see :func:`error_moments`.
    """

    predictions: Integers
    actions: Integers
    outcomes: Integers
    weights: Integers
    squared_weights: Integers
    residuals: Integers

    @staticmethod
    def shapes(groups: int, labels: int, *, regression: bool) -> dict[str, tuple[int, ...]]:
        """Give the shape of each part."""
        outcomes = (groups, labels + 1, labels)
        return {
            "predictions": (groups, labels + 1),
            "actions": (groups, len(Action)),
            "outcomes": outcomes,
            "weights": outcomes,
            "squared_weights": outcomes,
            "residuals": (groups, OF_ERRORS if regression else 3),
        }

    @classmethod
    def size(cls, groups: int, labels: int, *, regression: bool) -> int:
        """Give the size of the flat array."""
        return sum(math.prod(shape) for shape in cls.shapes(groups, labels, regression=regression).values())

    @classmethod
    def of(cls, flat: Integers, groups: int, labels: int, *, regression: bool) -> Self:
        """View a flat array (size,) as counts, without copying."""
        parts, start = {}, 0
        for name, shape in cls.shapes(groups, labels, regression=regression).items():
            stop = start + math.prod(shape)
            parts[name] = flat[start:stop].reshape(shape)
            start = stop
        return cls(**parts)

    def count_answers(self, group: Integers, records: Records) -> None:
        """Count rows that are answered; ``group`` (n,) holds their level codes."""
        predicted = self._predicted(records)
        _add(self.predictions, group, predicted)
        _add(self.actions, group, records.action)

    def count_outcomes(self, group: Integers, records: Records) -> None:
        """Count rows whose outcome has become known; ``group`` (n,) holds their level codes."""
        assert records.actual is not None  # noqa: S101 - the caller looked
        regression = records.predicted.dtype.kind == "f"
        predicted, k = self._predicted(records), self.outcomes.shape[2]
        actual = np.zeros_like(predicted) if regression else np.asarray(records.actual, np.int64)
        where = (group, predicted, actual)
        _add(self.outcomes, *where)
        if records.weight is not None:
            weight = np.minimum(np.nan_to_num(records.weight, nan=0.0), LARGEST)
            np.add.at(self.weights, where, micro(weight))
            np.add.at(self.squared_weights, where, micro(weight * weight))
        if regression:
            add_errors(self.residuals, group, records)
            return
        residual = records.confidence - (predicted == actual)
        known = (predicted < k) & ~np.isnan(residual)
        rows, values = group[known], residual[known]
        for column, what in enumerate((np.ones(len(rows), np.int64), micro(values), micro(values * values))):
            np.add.at(self.residuals[:, column], rows, what)

    def _predicted(self, records: Records) -> Integers:
        """Give label codes (n,): k for rows without an answer. For a regression: 0, or 1 for rows without an answer."""
        labels = np.zeros(len(records)) if records.predicted.dtype.kind == "f" else records.predicted
        return np.where(records.answered, labels, self.predictions.shape[1] - 1).astype(np.int64)


def _add(table: Integers, *codes: Integers) -> None:
    flat = np.ravel_multi_index(codes, table.shape)
    table += np.bincount(flat, minlength=table.size).reshape(table.shape)


OF_ERRORS = 1 + ERRORS.columns + SQUARES.columns
"""The number of integers for a regression's errors: their count, their sum and the sum of their squares."""


def add_errors(table: Integers, row: Integers, records: Records) -> None:
    """Add each answered record's error, predicted less actual, to the ``row`` (n,) of a table (r, OF_ERRORS)."""
    error = finite(records.predicted) - finite(records.actual if records.actual is not None else np.nan)
    known = records.answered & ~np.isnan(error)
    row, error = row[known], error[known]
    np.add.at(table[:, 0], row, 1)
    start = 1
    for sums, values in ((ERRORS, error), (SQUARES, _square(error))):
        column, amount = sums.terms(values)
        np.add.at(table, (row, start + column), amount)
        start += sums.columns


def error_moments(table: Integers) -> tuple[Integers, Floats, Floats]:
    """Compute number, mean and variance (...) of errors, in the target's unit, from their sums (..., OF_ERRORS)."""
    n, split = table[..., 0], 1 + ERRORS.columns
    rows = np.maximum(n, 1)
    mean = ERRORS.total(table[..., 1:split]) / rows
    return n, mean, np.maximum(SQUARES.total(table[..., split:]) / rows - mean * mean, 0)


def _square(values: Floats) -> Floats:
    """Square numbers; a number above 1e150 counts as 1e150, so that its square is finite."""
    return np.asarray(np.square(np.clip(values, -1e150, 1e150)), np.float64)


def micro(values: npt.NDArray[np.float64]) -> Integers:
    """Round to millionths."""
    return np.asarray(np.rint(values * MICRO), np.int64)


def finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Keep NaN, and replace an infinity by a number that is still very large after a subtraction."""
    return np.clip(np.asarray(values, np.float64), -1e300, 1e300)
