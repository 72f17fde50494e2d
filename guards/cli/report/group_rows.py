"""The groups that a bundle's monitors count, for rows of a file."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from guards.bundle.batches import batches_of
from guards.bundle.bundle import Bundle
from guards.cli.report.parts import ReportPart
from guards.monitors.base import Statistic
from guards.monitors.groups.monitor import Groups
from guards.types import Rows

__all__ = ["group_figures", "groups_monitors", "rows_by_group"]


def groups_monitors(bundle: Bundle) -> list[Groups]:
    """Find the monitors of groups."""
    return [monitor for monitor in bundle.monitors if isinstance(monitor, Groups)]


def rows_by_group(bundle: Bundle, monitor: Groups, rows: Rows) -> npt.NDArray[np.int64]:
    """Count the rows of each of the monitor's levels (g,)."""
    codes = [monitor.group_of(batch).cpu().numpy() for batch in batches_of(bundle, rows)]
    return np.bincount(np.concatenate(codes), minlength=len(monitor.levels))


def group_figures(bundle: Bundle, monitor: Groups, part: ReportPart) -> Sequence[Statistic]:
    """Give the figures that the monitor would report after these rows and their labels."""
    y, total, start = part.rows.y, np.zeros_like(monitor.counts), 0
    for batch in batches_of(bundle, part.rows):
        rows = slice(start, start + len(batch))
        result, start = part.judged[rows], rows.stop
        total += monitor.tally(monitor.records_of(batch, result))
        if y is not None:
            total += monitor.tally(monitor.records_of(batch, result, y[rows]))
    return monitor.aside(total).report()
