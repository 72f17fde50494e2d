"""What the accuracy monitor counts of each row, by column, and the figures that follow from the counts."""

from typing import Any

import numpy as np
import numpy.typing as npt

from guards.calibration.confidence_shift import move_log_odds
from guards.monitors.answered_rows import Records
from guards.monitors.base import Statistic
from guards.monitors.groups.group_counts import MICRO, OF_ERRORS, error_moments, micro
from guards.monitors.recent_accuracy import rate_statistic
from guards.statistics.confidence_sequences import asymptotic_mean_interval, mean_interval
from guards.types import Action

__all__ = [
    "ANSWERED", "CONFIDENCE", "CONFIDENCE_SQUARED", "COVERED", "ERRORS_AT", "FLAGGED", "MINIMUM", "OF_CLASSES",
    "OF_VALUES", "RIGHT", "ROWS", "UNCOVERED", "WRONG", "answer_counts", "figures", "outcome_counts",
]  # fmt: skip

Columns = dict[int, npt.NDArray[np.int64]]
(ROWS, FLAGGED, ANSWERED, CONFIDENCE, CONFIDENCE_SQUARED, RIGHT, WRONG, COVERED, UNCOVERED) = range(ERRORS_AT := 9)
OF_CLASSES = 11
"""Columns of a classification. The last two stay empty, so that totals stored by earlier versions keep their shape."""
OF_VALUES = ERRORS_AT + OF_ERRORS
"""Columns of a regression. The last hold the errors, see :func:`guards.monitors.groups.group_counts.add_errors`."""
MINIMUM = 30
"""The fewest rows from which a state or the interval of a mean error is computed."""
COVERAGE = ((COVERED, 1), (UNCOVERED, 0))


def answer_counts(records: Records, shift: float, *, regression: bool) -> Columns:
    """Give what each row (n,) adds to each column when the row is answered.

    ``shift`` moves the log odds of the confidence. Confidence is counted in millionths.
    """
    sure = records.answered if regression else records.answered & ~np.isnan(records.confidence)
    moved = move_log_odds(records.confidence, shift)
    confidence = np.where(sure & ~np.isnan(moved), moved, 0.0)
    flagged = records.action > Action.ALLOW if records.flagged is None else records.flagged
    return {
        ROWS: np.ones(len(records), np.int64),
        FLAGGED: flagged.astype(np.int64),
        ANSWERED: sure.astype(np.int64),
        CONFIDENCE: micro(confidence),
        CONFIDENCE_SQUARED: micro(confidence * confidence),
    }


def outcome_counts(records: Records, actual: npt.NDArray[Any], *, regression: bool) -> Columns:
    """Give what each row (n,) adds to each column when its ``actual`` label or value (n,) becomes known.

    For a regression the column of right answers counts the answered rows.
    """
    answered = records.answered
    counts: Columns = {}
    if regression:
        counts |= {RIGHT: answered.astype(np.int64)}
    else:
        right = records.predicted == actual
        counts |= {RIGHT: (answered & right).astype(np.int64), WRONG: (answered & ~right).astype(np.int64)}
    if records.covered is not None:
        counts |= {value: (answered & (records.covered == mark)).astype(np.int64) for value, mark in COVERAGE}
    return counts


def figures(counts: npt.NDArray[np.int64], labels: dict[str, str], *, regression: bool) -> list[Statistic]:
    """Give the figures of the counts (columns,) of all rows or of one group, with their confidence sequences."""
    known = int(counts[RIGHT] + counts[WRONG])
    coverage = rate_statistic("coverage", counts[COVERED], counts[COVERED] + counts[UNCOVERED], labels)
    if regression:
        _, mean, variance = error_moments(counts[ERRORS_AT:])
        low, high = asymptotic_mean_interval(mean, variance, known)
        bounds = (float(low), float(high)) if known >= MINIMUM else None
        return [Statistic("mean_error", float(mean) if known else None, bounds, known, labels), coverage]
    n = int(counts[ANSWERED])
    sums = counts[CONFIDENCE] / MICRO, counts[CONFIDENCE_SQUARED] / MICRO
    low, high = mean_interval(*sums, n, (0.0, 1.0))
    bounds = (float(low), float(high)) if n else None
    return [
        Statistic("expected_accuracy", float(sums[0]) / n if n else None, bounds, n, labels),
        rate_statistic("realised_accuracy", counts[RIGHT], known, labels),
        coverage,
    ]
