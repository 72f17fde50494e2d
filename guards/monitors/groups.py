"""What the model says and does to whom: counts by group, and the rates, differences and ratios they make."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from torch import Tensor

from guards.attributes import Attribute, Crossing, Grouping, Source
from guards.columns import Label, NamedLabel
from guards.faults import some_of
from guards.groups.figures import Measured
from guards.groups.recent import is_beyond, outside, shown
from guards.groups.report import REGRESSION, GroupReport
from guards.groups.tables import Tables
from guards.monitor import Context, CountingMonitor, Monitor, MonitorParams, Series, State, Statistic
from guards.records import Records
from guards.types import Action, Batch

__all__ = ["Groups", "GroupsParams", "grouping_of", "level_codes", "of_requests"]

UNANSWERED = "none"
VALUE = "value"
MOST_CELLS, FEWEST_LEVELS = 20_000, 3
"""Counters of outcomes, one for each group and pair of labels; and the levels there are if one is declared."""
Alarmed = Literal[
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "accuracy_difference",
    "mean_error_difference",
]
CLASSIFICATION: tuple[Alarmed, ...] = ("demographic_parity_difference", "equalized_odds_difference")


class GroupsParams(MonitorParams):
    """Parameters of the groups monitor."""

    kind: Literal["groups"] = "groups"
    attribute: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", description="what the groups are groups of")
    source: Source | None = Field(default=None, description="where the attribute comes from")
    intersect: tuple[str, ...] = Field(
        default=(), description="names of groups monitors whose levels are crossed, instead of a source"
    )
    levels: tuple[NamedLabel, ...] = Field(
        default=(), description="the groups; every other value is `other`, an absent one `unknown`"
    )
    positive: Label | None = Field(
        default=None, description="the label of selection rate, TPR, FPR and PPV; default: each"
    )
    tolerance: float | None = Field(
        default=None,
        ge=0,
        description="the difference between groups that raises no alarm: below 1 between rates, in the target's unit "
        "between mean errors; default: none does",
    )
    alarm: tuple[Alarmed, ...] | None = Field(
        default=None,
        min_length=1,
        description="the statistics that may raise the alarm, which share its 5 %; default: "
        f"{', '.join(CLASSIFICATION)}, or mean_error_difference of a regression",
    )
    minimum: int = Field(default=30, ge=1, description="answered rows that a group must have to be judged")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.source is None) == (not self.intersect):
            raise ValueError("give either `source` or `intersect`")
        if self.intersect and (self.levels or len(set(self.intersect)) < max(2, len(self.intersect))):
            raise ValueError("`intersect` names two or more different groups monitors, whose levels it takes")
        if self.source is not None and self.source.edges is not None and self.levels:
            raise ValueError("bands name their own levels: leave `levels` out")
        if self.source is not None and self.source.request is not None and not self.levels:
            raise ValueError("groups that come with the request need their `levels` declared")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("a level is listed twice")
        if self.alarm is not None and len(set(self.alarm)) < len(self.alarm):
            raise ValueError("`alarm` lists a statistic twice")
        return self


class Groups(CountingMonitor):
    """Counts answered rows by (group, label) and (group, action), and outcomes by (group, predicted, actual).

    Rows without an answer count under ``none``. Everything it reports is a function of these counts; see
    :mod:`guards.groups.report`. Groups are the declared levels, ``other`` and ``unknown``; only declared ones are
    compared.
    """

    Params: ClassVar[type[MonitorParams]] = GroupsParams

    def __init__(self, params: GroupsParams, context: Context) -> None:
        """Match levels to what there is.

        Raises:
            ValueError: a column, a level, a monitor or the positive label is not there, or there is too much to count.
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
        _refuse_shared_attribute(params, context)
        grouping = grouping_of(params, context)
        pairs = (len(labels) + 1) * len(labels)
        cells = len(grouping.levels) * pairs
        if cells > MOST_CELLS:
            raise ValueError(
                f"levels: {len(grouping.levels)} groups of {len(labels)} labels make {cells} counters of outcomes, "
                f"but only {MOST_CELLS} are allowed: "
                f"{'declare fewer levels' if FEWEST_LEVELS * pairs <= MOST_CELLS else 'leave this monitor out'}"
            )
        size = Tables.size(len(grouping.levels), len(labels), regression=not context.classes)
        super().__init__(params, context, size)
        self.params, self.grouping, self.levels, self.labels = params, grouping, grouping.levels, labels
        self.alarms = params.tolerance is not None
        self.positives = labels if params.positive is None else (params.positive,)
        self._alarm = alarm
        self._report: tuple[bytes, GroupReport] | None = None
        self._series = self._describe()

    @property
    def request(self) -> str | None:
        """The request's key that the attribute comes from, if it does."""
        return None if self.params.source is None else self.params.source.request

    def encode(self, values: Sequence[str | None]) -> Tensor:
        """Turn a request's values into level codes (n,)."""
        assert isinstance(self.grouping, Attribute)  # noqa: S101 - crossed ones come with no request
        return self.grouping.encode(values)

    def group_of(self, batch: Batch) -> Tensor:
        """Tell each row's level code (n,) int64."""
        assert self.grouping is not None  # noqa: S101 - set at construction
        return self.grouping.group_of(batch)

    def tally(self, records: Records) -> npt.NDArray[np.int64]:
        """Count rows as they are answered, or, with ``actual``, as their truth comes to be known."""
        flat = np.zeros(len(self.counts), dtype=np.int64)
        tables = self.tables_of(flat)
        group = records.groups[self.name]
        if records.actual is None:
            tables.count_answers(group, records)
        else:
            tables.count_outcomes(group, records)
        return flat

    def report(self) -> list[Statistic]:
        """Give every statistic of the totals, and those that may alarm of recent rows."""
        return [*self._evaluated().statistics, *shown(self._measured(self.totals), self._windows())]

    def state(self) -> State:
        """Alarm once an interval leaves the tolerance, until the estimate itself is back within it.

        A warning says that labels come for some predictions and never for others.
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
        """Give the statistic that leaves the tolerance: of recent rows, or of all; else the largest that may alarm."""
        recent = outside(self._measured(self.totals), self._windows())
        if recent is not None:
            return recent
        found = [s for s in self._evaluated().statistics if s.name in self._alarm and s.value is not None]
        return max(found, key=lambda s: (0.0 if s.interval is None else s.interval[0], s.value or 0.0), default=None)

    def series(self) -> list[Series]:
        """Give ``group_predictions_total``, ``group_actions_total`` and ``group_outcomes_total`` of this process."""
        tables = self.tables_of(self.counts)
        values = np.concatenate([part.ravel() for part in (tables.predictions, tables.actions, tables.outcomes)])
        return [
            Series(metric, "counter", labels, float(value))
            for (metric, labels), value in zip(self._series, values.tolist(), strict=True)
        ]

    def tables_of(self, flat: npt.NDArray[np.int64]) -> Tables:
        """See the tables in counts of this monitor's shape."""
        return Tables.of(flat, len(self.levels), len(self.labels), regression=not self.context.classes)

    def _evaluated(self) -> GroupReport:
        totals = self.totals.copy()
        key = totals.tobytes()
        if self._report is None or self._report[0] != key:
            self._report = (key, GroupReport.of(self._measured(totals)))
        return self._report[1]

    def _windows(self) -> list[Tables]:
        """See recent counts as tables; without any, no rows."""
        return [self.tables_of(window) for window in self.recent() or (np.zeros_like(self.counts),)]

    def _measured(self, counts: npt.NDArray[np.int64]) -> Measured:
        return Measured(
            tables=self.tables_of(counts),
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
        """Name every series, in the order of the tables."""
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
    """Turn what came with the rows, by the request's names, into what a batch carries: codes (rows,) by attribute."""
    absent = [None] * rows
    return {
        attribute: monitor.encode(groups.get(monitor.request or "", absent)) for attribute, monitor in monitors.items()
    }


def grouping_of(params: GroupsParams, context: Context) -> Grouping:
    """Make what tells the rows' groups from a groups monitor's parameters.

    Raises:
        ValueError: a column, a level or a monitor is not there.
    """
    if params.source is not None:
        return Attribute(params.name, params.attribute, params.source, params.levels, context.schema)
    named = {p.name: p for p in context.monitors if isinstance(p, GroupsParams) and p.source is not None}
    for name in params.intersect:
        if name not in named:
            raise ValueError(f"intersect: no groups monitor {name!r} with a source; there are {sorted(named)}")
    return Crossing(params.name, [grouping_of(named[name], context) for name in params.intersect])


def _refuse_shared_attribute(params: GroupsParams, context: Context) -> None:
    for other in context.monitors:
        if isinstance(other, GroupsParams) and other.name != params.name and other.attribute == params.attribute:
            raise ValueError(f"attribute: {params.attribute!r} is that of monitor {other.name!r} too: rename one")
