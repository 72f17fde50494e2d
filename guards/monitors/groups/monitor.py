"""The groups monitor: counts predictions, actions and outcomes by group, and compares the groups' rates."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from guards.input.cell_faults import some_of
from guards.monitors.answered_rows import Records
from guards.monitors.base import Context, CountingMonitor, Monitor, MonitorParams, Series, State, Statistic
from guards.monitors.groupings import Attribute
from guards.monitors.groups.figures import Measured
from guards.monitors.groups.group_counts import GroupCounts
from guards.monitors.groups.params import CLASSIFICATION, GroupsParams, grouping_of, refuse_shared_attribute
from guards.monitors.groups.recent_figures import is_beyond, outside, shown
from guards.monitors.groups.report import REGRESSION, GroupReport
from guards.types import Action, Batch

__all__ = ["Groups", "level_codes", "of_requests"]

UNANSWERED = "none"
VALUE = "value"
MOST_CELLS, FEWEST_LEVELS = 20_000, 3
"""The most counters of outcomes (one for each group and pair of labels), and the fewest levels of an attribute."""


class Groups(CountingMonitor):
    """Counts answered rows by (group, label) and (group, action), and outcomes by (group, predicted, actual).

    Rows without an answer count under the label ``none``. All reported figures are functions of these counts; see
    :mod:`guards.monitors.groups.report`. The groups are the declared levels, ``other`` and ``unknown``; only the
    declared levels are compared.
    """

    Params: ClassVar[type[MonitorParams]] = GroupsParams

    def __init__(self, params: GroupsParams, context: Context) -> None:
        """Match the parameters with the schema, the classes and the other monitors.

        Raises:
            ValueError: a column, a level, a monitor or the positive label does not exist, the alarm or the tolerance
                does not suit the task, another monitor has the same attribute, or there are too many counters.
        """
        labels: tuple[str, ...] = context.classes or (VALUE,)
        if params.positive is not None and params.positive not in context.classes:
            raise ValueError(f"positive: {params.positive!r} is no label; there are {some_of(context.classes)}")
        if UNANSWERED in labels:
            raise ValueError(f"a label is named {UNANSWERED!r}, which stands for rows without an answer: rename it")
        alarm = params.alarm or (CLASSIFICATION if context.classes else (REGRESSION,))
        strange = [name for name in alarm if (name == REGRESSION) == bool(context.classes)]
        if strange:
            task = "classification" if context.classes else "regression"
            raise ValueError(f"alarm: {strange[0]} is no statistic of a {task}")
        if context.classes and params.tolerance is not None and params.tolerance >= 1:
            raise ValueError(
                f"tolerance: {params.tolerance:g} bounds a difference between rates, which is never more than 1: "
                "give a number below 1, such as 0.1"
            )
        refuse_shared_attribute(params, context)
        grouping = grouping_of(params, context)
        pairs = (len(labels) + 1) * len(labels)
        cells = len(grouping.levels) * pairs
        if cells > MOST_CELLS:
            raise ValueError(
                f"levels: {len(grouping.levels)} groups of {len(labels)} labels make {cells} counters of outcomes, "
                f"but only {MOST_CELLS} are allowed: "
                f"{'declare fewer levels' if FEWEST_LEVELS * pairs <= MOST_CELLS else 'leave this monitor out'}"
            )
        size = GroupCounts.size(len(grouping.levels), len(labels), regression=not context.classes)
        super().__init__(params, context, size)
        self.params, self.grouping, self.levels, self.labels = params, grouping, grouping.levels, labels
        self.may_alarm = params.tolerance is not None
        self.positives = labels if params.positive is None else (params.positive,)
        self._alarm = alarm
        self._report: tuple[bytes, GroupReport] | None = None
        self._series = self._describe()

    @property
    def request(self) -> str | None:
        """The key in a request's ``groups`` that holds the attribute; None if the attribute has another source."""
        return None if self.params.source is None else self.params.source.request

    def encode(self, values: Sequence[str | None]) -> Tensor:
        """Turn a request's values into level codes (n,)."""
        assert isinstance(self.grouping, Attribute)  # noqa: S101 - crossed groups never come with a request
        return self.grouping.encode(values)

    def group_of(self, batch: Batch) -> Tensor:
        """Give each row's level code (n,) int64."""
        assert self.grouping is not None  # noqa: S101 - set at construction
        return self.grouping.group_of(batch)

    def tally(self, records: Records) -> npt.NDArray[np.int64]:
        """Count rows when they are answered or, with ``actual``, when their outcomes become known."""
        flat = np.zeros(len(self.counts), dtype=np.int64)
        counts = self.group_counts_of(flat)
        records = records.clean() if self.params.include == "clean" else records
        group = records.groups[self.name]
        if records.actual is None:
            counts.count_answers(group, records)
        else:
            counts.count_outcomes(group, records)
        return flat

    def report(self) -> list[Statistic]:
        """Give all statistics of the totals, and the statistics of recent rows that may raise the alarm."""
        return [*self._evaluated().statistics, *shown(self._measured(self.totals), self._windows())]

    def state(self) -> State:
        """Alarm once an interval lies above the tolerance, until the estimate itself is back within the tolerance.

        A warning means that labels arrive for some predictions and never for others.
        """
        report = self._evaluated()
        if report.insufficient:
            return "insufficient_data"
        self._alarmed = report.outside or (self._alarmed and report.beyond)
        recent = self._measured(self.totals), self._windows()
        is_outside = outside(*recent) is not None
        self._alarmed_recently = is_outside or (self._alarmed_recently and is_beyond(*recent))
        if self._alarmed or self._alarmed_recently:
            return "alarm"
        return "warning" if report.depends else "ok"

    def cause(self) -> Statistic | None:
        """Give the statistic of recent rows that exceeds the tolerance, or else the largest that may raise an alarm."""
        recent = outside(self._measured(self.totals), self._windows())
        if recent is not None:
            return recent
        found = [s for s in self._evaluated().statistics if s.name in self._alarm and s.value is not None]
        return max(found, key=lambda s: (0.0 if s.interval is None else s.interval[0], s.value or 0.0), default=None)

    def series(self) -> list[Series]:
        """Give ``group_predictions_total``, ``group_actions_total`` and ``group_outcomes_total`` of this process."""
        counts = self.group_counts_of(self.counts)
        values = np.concatenate([part.ravel() for part in (counts.predictions, counts.actions, counts.outcomes)])
        return [
            Series(metric, "counter", labels, float(value))
            for (metric, labels), value in zip(self._series, values.tolist(), strict=True)
        ]

    def group_counts_of(self, flat: npt.NDArray[np.int64]) -> GroupCounts:
        """View a flat array of this monitor's counts (size,) by group, without copying."""
        return GroupCounts.of(flat, len(self.levels), len(self.labels), regression=not self.context.classes)

    def _evaluated(self) -> GroupReport:
        totals = self.totals.copy()
        key = totals.tobytes()
        if self._report is None or self._report[0] != key:
            self._report = (key, GroupReport.of(self._measured(totals)))
        return self._report[1]

    def _windows(self) -> list[GroupCounts]:
        """View the windows of recent counts by group; if there are none, give one window without rows."""
        return [self.group_counts_of(window) for window in self.recent() or (np.zeros_like(self.counts),)]

    def _measured(self, counts: npt.NDArray[np.int64]) -> Measured:
        return Measured(
            counts=self.group_counts_of(counts),
            attribute=self.params.attribute,
            levels=self.levels,
            labels=self.labels,
            positives=self.positives,
            alarm=self._alarm,
            tolerance=self.params.tolerance,
            minimum=self.params.minimum,
            regression=not self.context.classes,
        )

    def _describe(self) -> list[tuple[str, dict[str, str]]]:
        """Name every series, in the order of the counts."""
        predicted = (*self.labels, UNANSWERED)
        attribute, levels = {"attribute": self.params.attribute}, self.levels
        return [
            *(("group_predictions_total", attribute | {"group": g, "label": x}) for g in levels for x in predicted),
            *(("group_actions_total", attribute | {"group": g, "action": a.label}) for g in levels for a in Action),
            *(
                ("group_outcomes_total", attribute | {"group": g, "predicted": x, "actual": y})
                for g in levels
                for x in predicted
                for y in self.labels
            ),
        ]


def of_requests(monitors: Iterable[Monitor]) -> dict[str, Groups]:
    """Find the monitors whose groups come with the request, by attribute."""
    return {
        monitor.params.attribute: monitor
        for monitor in monitors
        if isinstance(monitor, Groups) and monitor.request is not None
    }


def level_codes(
    monitors: Mapping[str, Groups], rows: int, groups: Mapping[str, Sequence[str | None]]
) -> dict[str, Tensor]:
    """Turn the ``groups`` that came with the rows, by the request's keys, into level codes (rows,) by attribute."""
    absent = [None] * rows
    return {
        attribute: monitor.encode(groups.get(monitor.request or "", absent)) for attribute, monitor in monitors.items()
    }
