"""What recent rows say of groups: the statistics that may alarm, of windows of the last rows.

``measured`` says how to work a window out; its own tables are not used. Windows are those of :mod:`guards.recent`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from guards.groups.figures import Measured
from guards.groups.rates import compare, largest
from guards.groups.report import compare_errors
from guards.groups.tables import Tables
from guards.monitor import Statistic
from guards.recent import ALPHA, ENOUGH_ROWS

__all__ = ["is_beyond", "outside", "shown"]

PREFIX = "recent_"


def shown(measured: Measured, windows: Sequence[Tables]) -> list[Statistic]:
    """Give the statistics of the shortest window with rows enough, or else of the longest."""
    return [] if measured.declared <= 1 else _compared(_shown(measured, windows))


def outside(measured: Measured, windows: Sequence[Tables]) -> Statistic | None:
    """Give the first statistic whose interval leaves the tolerance, of the shortest window that has any."""
    bar = measured.tolerance
    if bar is None or measured.declared <= 1:
        return None
    for window in (replace(measured, tables=tables) for tables in windows):
        if _largest(window) > bar:  # its interval holds the estimate, and costs a hundred times as much
            for statistic in _compared(window):
                if statistic.interval is not None and statistic.interval[0] > bar:
                    return statistic
    return None


def is_beyond(measured: Measured, windows: Sequence[Tables]) -> bool:
    """Tell whether an estimate of the window that is shown is beyond the tolerance."""
    bar = np.inf if measured.tolerance is None or measured.declared <= 1 else measured.tolerance
    return _largest(_shown(measured, windows)) > bar


def _shown(measured: Measured, windows: Sequence[Tables]) -> Measured:
    enough = (w for w in windows if max(w.predictions.sum(), w.outcomes.sum()) >= ENOUGH_ROWS)
    return replace(measured, tables=next(enough, windows[-1]))


def _largest(window: Measured) -> float:
    if window.regression:
        return compare_errors(window, ALPHA).value or 0.0
    return largest(window, window.alarm)


def _compared(window: Measured) -> list[Statistic]:
    found = [compare_errors(window, ALPHA)] if window.regression else compare(window, window.alarm, ALPHA)
    return [replace(each, name=PREFIX + each.name) for each in found]
