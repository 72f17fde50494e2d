"""Compares groups on recent rows: the statistics that may raise the alarm, in windows of recent rows.

``measured`` says how to evaluate a window; the counts of ``measured`` are not used. For the windows see
:mod:`guards.statistics.recent_blocks`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from guards.monitors.base import Statistic
from guards.monitors.groups.figures import Measured
from guards.monitors.groups.group_counts import GroupCounts
from guards.monitors.groups.rates import compare, largest
from guards.monitors.groups.report import compare_errors
from guards.statistics.recent_blocks import ALPHA, ENOUGH_ROWS

__all__ = ["is_beyond", "outside", "shown"]

PREFIX = "recent_"


def shown(measured: Measured, windows: Sequence[GroupCounts]) -> list[Statistic]:
    """Give the statistics of the shortest window with enough rows; if no window has enough, of the longest."""
    return [] if measured.declared <= 1 else _compared(_shown(measured, windows))


def outside(measured: Measured, windows: Sequence[GroupCounts]) -> Statistic | None:
    """Give the first statistic whose interval lies above the tolerance, in the shortest such window; else None."""
    bar = measured.tolerance
    if bar is None or measured.declared <= 1:
        return None
    for window in (replace(measured, counts=counts) for counts in windows):
        if _largest(window) > bar:  # the interval contains the estimate, and takes 100 times as long
            for statistic in _compared(window):
                if statistic.interval is not None and statistic.interval[0] > bar:
                    return statistic
    return None


def is_beyond(measured: Measured, windows: Sequence[GroupCounts]) -> bool:
    """Return whether an estimate in the window that :func:`shown` chooses is above the tolerance."""
    bar = np.inf if measured.tolerance is None or measured.declared <= 1 else measured.tolerance
    return _largest(_shown(measured, windows)) > bar


def _shown(measured: Measured, windows: Sequence[GroupCounts]) -> Measured:
    enough = (w for w in windows if max(w.predictions.sum(), w.outcomes.sum()) >= ENOUGH_ROWS)
    return replace(measured, counts=next(enough, windows[-1]))


def _largest(window: Measured) -> float:
    if window.regression:
        return compare_errors(window, ALPHA).value or 0.0
    return largest(window, window.alarm)


def _compared(window: Measured) -> list[Statistic]:
    found = [compare_errors(window, ALPHA)] if window.regression else compare(window, window.alarm, ALPHA)
    return [replace(each, name=PREFIX + each.name) for each in found]
