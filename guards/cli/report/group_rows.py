"""The groups that a bundle's monitors count, for rows of a file."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from guards.bundle.bundle import Bundle
from guards.cli.report.parts import ReportPart
from guards.model.chunked_run import CHUNK
from guards.monitors.base import Statistic
from guards.monitors.groups.monitor import Groups, level_codes, of_requests
from guards.types import Batch, Rows

__all__ = ["group_figures", "groups_monitors", "rows_by_group"]


def groups_monitors(bundle: Bundle) -> list[Groups]:
    """Find the monitors of groups."""
    return [monitor for monitor in bundle.monitors if isinstance(monitor, Groups)]


def rows_by_group(bundle: Bundle, monitor: Groups, rows: Rows) -> npt.NDArray[np.int64]:
    """Count the rows of each of the monitor's levels (g,)."""
    codes = monitor.group_of(_batch(bundle, rows)).cpu().numpy()
    return np.bincount(codes, minlength=len(monitor.levels))


def group_figures(bundle: Bundle, monitor: Groups, part: ReportPart) -> Sequence[Statistic]:
    """Give the figures that the monitor would report after these rows and their labels."""
    batch, y = _batch(bundle, part.rows), part.rows.y
    total = np.zeros_like(monitor.counts)
    for start in range(0, len(batch), CHUNK):
        rows = slice(start, start + CHUNK)
        some, result = batch[rows], part.judged[rows]
        total += monitor.tally(monitor.records_of(some, result))
        if y is not None:
            total += monitor.tally(monitor.records_of(some, result, y[rows]))
    return monitor.aside(total).report()


def _batch(bundle: Bundle, rows: Rows) -> Batch:
    codes = level_codes(of_requests(bundle.monitors), len(rows), rows.groups)
    device = bundle.model.device
    return Batch(rows.x.to(device), {name: values.to(device) for name, values in codes.items()})
