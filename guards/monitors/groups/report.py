"""The report of the groups monitor: each figure of the counts with an interval that holds at all times.

Names and values are as in fairlearn's MetricFrame, for the declared groups that have rows. Each interval of a single
group holds at 95 %. The intervals of all statistics that may raise the alarm share an error of 5 %, which is divided
among their labels, pairs of groups and parts. So in at most 5 % of deployments a monitor ever raises a false alarm.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from guards.monitors.base import Statistic
from guards.monitors.groups.differences import least, most, rate
from guards.monitors.groups.figures import ALPHA, Measured, by_cell, column, statistic
from guards.monitors.groups.group_counts import error_moments
from guards.monitors.groups.rates import by_group, of_classes
from guards.statistics.confidence_sequences import asymptotic_mean_interval, rate_interval
from guards.types import Action

__all__ = ["REGRESSION", "GroupReport", "compare_errors"]

REGRESSION = "mean_error_difference"
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class GroupReport:
    """The statistics, and whether the interval (``outside``) or the estimate (``beyond``) of one exceeds the tolerance.

    Only statistics that may raise the alarm count for these two. ``insufficient`` is true if fewer than two groups have
    enough rows, or if no statistic that may raise the alarm has a figure. ``depends`` is true if labels arrive for some
    predictions and never for others.
    """

    statistics: tuple[Statistic, ...]
    insufficient: bool
    outside: bool
    beyond: bool
    depends: bool

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Compute all statistics of the counts, and judge them."""
        counts, declared = measured.counts, measured.declared
        answered = counts.predictions[:, :-1].sum(1)
        depends = _depends_on_decision(measured)
        statistics = [*_of_actions(measured), *_of_coverage(measured, depends)]
        found, compared = _of_values(measured) if measured.regression else of_classes(measured)
        alarmed = [s for s in compared if s.name in measured.alarm]
        if measured.tolerance is not None:
            labels = {"attribute": measured.attribute}
            statistics.append(Statistic("tolerance", measured.tolerance, None, 0, labels))
        bar = np.inf if measured.tolerance is None else measured.tolerance
        return cls(
            statistics=(*found, *compared, *statistics),
            insufficient=(
                int((answered[:declared] >= measured.minimum).sum()) < min(2, declared)
                or bool(alarmed and all(s.value is None and s.interval is None for s in alarmed))
            ),
            outside=any(s.interval is not None and s.interval[0] > bar for s in alarmed),
            beyond=any(s.value is not None and s.value > bar for s in alarmed),
            depends=depends,
        )


def _of_values(measured: Measured) -> tuple[list[Statistic], list[Statistic]]:
    """Give the groups' mean errors, predicted less actual, with asymptotic intervals, and their largest difference."""
    n, value, low, high = _mean_errors(measured, ALPHA)
    found = by_cell(measured, "mean_error", value[:, None], column((low, high)), n[:, None])
    return found, [] if measured.declared <= 1 else [compare_errors(measured, ALPHA)]


def _mean_errors(measured: Measured, alpha: float) -> tuple[Integers, Floats, Floats, Floats]:
    """Give the groups' rows and mean errors, with lower and upper bounds; bounds are NaN for groups with few rows."""
    n, mean, variance = error_moments(measured.counts.residuals)
    enough = n >= max(measured.minimum, 2)
    low, high = asymptotic_mean_interval(mean, variance, n, alpha)
    return n, np.where(n > 0, mean, np.nan), np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def compare_errors(measured: Measured, alpha: float) -> Statistic:
    """Give the largest difference between the mean errors of declared groups, of which there must be two or more."""
    declared = measured.declared
    n, *figures = _mean_errors(measured, alpha / declared)
    value, low, high = (each[:declared] for each in figures)
    difference = most(value) - least(value) if (n[:declared] > 0).sum() > 1 else np.nan
    if (~np.isnan(low)).sum() > 1:
        interval = (np.maximum(most(low) - least(high), 0), most(high) - least(low))
    else:
        interval = (np.array(np.nan), np.array(np.nan))
    labels = {"attribute": measured.attribute}
    return statistic(REGRESSION, difference, interval, int(n[:declared].sum()), labels)


def _of_actions(measured: Measured) -> list[Statistic]:
    """Give the share of rows with each action, and the share of rows with any action but allow."""
    counts = measured.counts.actions
    rows = counts.sum(1)
    found = []
    kinds = [("any", counts[:, 1:].sum(1)), *((a.label, counts[:, a]) for a in Action if a is not Action.ALLOW)]
    for label, hits in kinds:
        low, high = rate_interval(hits, rows, ALPHA)
        for g, group in enumerate(measured.levels):
            labels = {"attribute": measured.attribute, "group": group, "action": label}
            found.append(statistic("action_rate", rate(hits, rows)[g], (low[g], high[g]), int(rows[g]), labels))
    return found


def _of_coverage(measured: Measured, depends: bool) -> list[Statistic]:
    """Give the share of answered rows whose outcome is known, by group and by predicted label."""
    answered, labelled = measured.counts.predictions[:, :-1], measured.counts.outcomes[:, :-1].sum(2)
    hits, n = by_group(np.minimum(labelled, answered).sum(1), answered.sum(1))
    low, high = rate_interval(hits, n, ALPHA)
    found = by_cell(measured, "label_coverage", rate(hits, n)[:, None], column((low, high)), n[:, None])
    attribute = {"attribute": measured.attribute}
    if not measured.regression:
        hits, n = np.minimum(labelled, answered).sum(0), answered.sum(0)
        low, high = rate_interval(hits, n, ALPHA)
        for k, label in enumerate(measured.labels):
            labels = attribute | {"label": label}
            found.append(statistic("label_coverage", rate(hits, n)[k], (low[k], high[k]), int(n[k]), labels))
    found.append(Statistic("labels_depend_on_decision", float(depends), None, int(labelled.sum()), attribute))
    return found


def _depends_on_decision(measured: Measured) -> bool:
    """Return whether outcomes arrive for some predictions and never for others, such as for granted loans alone."""
    answered = measured.counts.predictions[:, :-1].sum(0)
    labelled = measured.counts.outcomes[:, :-1].sum((0, 2))
    never = (answered >= measured.minimum) & (labelled == 0)
    return bool(never.any() and (labelled >= measured.minimum).any())
