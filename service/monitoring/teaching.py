"""Which answered rows each monitor counts: rows of its principals, of each principal at most its share."""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from guards.monitors.base import MonitorParams
from guards.types import Batch, Result
from service.messages.row_name import owner_of
from service.telemetry.metrics.engine import SKIPPED

__all__ = ["SHARE_ROWS", "ShareWindow", "Teaching", "Without", "counted"]

Marks = npt.NDArray[np.bool_]
Without = Mapping[str, Marks]
"""Marks (n,) the rows that a monitor does not count, by the monitor's name."""
SHARE_ROWS = 1000
"""A principal's share is measured over so many rows that a monitor counts."""


class ShareWindow:
    """Bounds how many of the last :data:`SHARE_ROWS` counted rows are of one principal.

    A row is taken if, with this row, its principal has at most the share of the last rows. The decision depends on the
    principals of earlier rows alone, and never on what a row holds. So taken rows are distributed as their principal's
    rows are, and a sequential test of the taken rows keeps its rate of false alarms (predictable selection).
    """

    def __init__(self, share: float) -> None:
        self._most = math.floor(share * SHARE_ROWS + 1e-6)
        self._owners: deque[str | None] = deque([None] * SHARE_ROWS)
        self._held: Counter[str | None] = Counter()

    def take(self, owner: str | None) -> bool:
        """Take a row of a principal, and say so; if the principal has had its share, nothing changes."""
        oldest = self._owners[0]
        if self._held[owner] + 1 - (oldest == owner) > self._most:
            return False
        self._held[self._owners.popleft()] -= 1
        self._held[owner] += 1
        self._owners.append(owner)
        return True


class Teaching:
    """Decides for every answered row which monitors count the row. Only the device's thread calls :meth:`sort`."""

    def __init__(self, monitors: Sequence[MonitorParams], count: Callable[[str, str, int], None]) -> None:
        """Follow the monitors' config; ``count`` is called with a monitor, a reason and a number of rows."""
        self._names = [params.name for params in monitors]
        self._principals = {p.name: frozenset(p.principals) for p in monitors if p.principals is not None}
        self._windows = {p.name: ShareWindow(p.principal_share) for p in monitors if p.principal_share is not None}
        self._clean = {params.name for params in monitors if getattr(params, "include", "all") == "clean"}
        self._count = count
        self.excluded: frozenset[str] = frozenset()
        """The principals that an admin has excluded. Another thread may replace the set."""

    def sort(self, names: Sequence[str], flagged: Marks) -> tuple[Without, Without]:
        """Sort rows (n,) by their names. ``flagged`` (n,) marks the rows that any guard flagged.

        Returns the rows that each monitor does not count by its own rules, and the rows that it does not count at all.
        The store keeps the first with each row, because an exclusion can be undone.
        """
        excluded = self.excluded
        if not (self._principals or self._windows or self._clean or excluded):
            return {}, {}
        owners = [owner_of(name) for name in names]
        gone, none = _marks(owner in excluded for owner in owners), np.zeros(len(owners), np.bool_)
        by_rule: dict[str, Marks] = {}
        at_all: dict[str, Marks] = {}
        for name in self._names:
            trusted = self._principals.get(name)
            foreign = none if trusted is None else ~gone & _marks(owner not in trusted for owner in owners)
            dirty = flagged & ~gone & ~foreign if name in self._clean else none
            over = self._over(name, owners, ~(gone | foreign | dirty))
            for reason, marks in zip(SKIPPED, (gone, foreign, over, dirty), strict=True):
                if rows := int(marks.sum()):
                    self._count(name, reason, rows)
            # A row that came while its principal was excluded has no place in a window of shares, also later.
            rules = foreign | over | (gone if name in self._windows else none)
            if rules.any():
                by_rule[name] = rules
            if (rules | gone).any():
                at_all[name] = rules | gone
        return by_rule, at_all

    def _over(self, name: str, owners: Sequence[str | None], offered: Marks) -> Marks:
        """Mark the offered rows (n,) whose principals have had their share."""
        window = self._windows.get(name)
        over = np.zeros(len(owners), np.bool_)
        if window is not None:
            for row in offered.nonzero()[0].tolist():
                over[row] = not window.take(owners[row])
        return over


def counted(batch: Batch, result: Result, skipped: Marks) -> tuple[Batch, Result]:
    """Take the rows of a batch that are not ``skipped`` (n,)."""
    rows = torch.from_numpy(np.flatnonzero(~skipped)).to(batch.x.device)
    return batch[rows], result[rows]


def _marks(values: Iterable[bool]) -> Marks:
    return np.fromiter(values, np.bool_)
