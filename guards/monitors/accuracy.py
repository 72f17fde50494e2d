"""The model's accuracy: estimated before labels arrive, counted once they do, beside training and held-out accuracy."""

import math
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from guards.calibration.confidence_shift import fit_shift
from guards.input.column import Label
from guards.monitors.accuracy_counts import (
    ANSWERED,
    CONFIDENCE,
    COVERED,
    ERRORS_AT,
    FLAGGED,
    MINIMUM,
    OF_CLASSES,
    OF_VALUES,
    RIGHT,
    ROWS,
    UNCOVERED,
    WRONG,
    answer_counts,
    figures,
    outcome_counts,
)
from guards.monitors.answered_rows import Records
from guards.monitors.base import Context, CountingMonitor, MonitorParams, Series, State, Statistic
from guards.monitors.groups.group_counts import MICRO, add_errors
from guards.monitors.groups.params import GroupsParams, grouping_of
from guards.monitors.recent_accuracy import RecentAccuracy, drop_statistic, rate_statistic
from guards.statistics.confidence_sequences import rate_interval
from guards.types import Reference, Result

__all__ = ["Accuracy", "AccuracyParams"]

BAND = 2.0
"""How many standard errors the false-alarm rate on clean rows may exceed the budget by."""
RECENT_TOLERANCE = 0.05
"""The largest loss of accuracy among recent rows that raises no alarm, if the config declares no tolerance."""


class AccuracyParams(MonitorParams):
    """Parameters of the accuracy monitor; every bundle has one, called ``accuracy`` unless its config names it."""

    kind: Literal["accuracy"] = "accuracy"
    groups: Label | None = Field(
        default=None, description="name of a groups monitor; the figures are then reported for each of its groups, too"
    )
    tolerance: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="the loss of accuracy against the held-out rows that raises no alarm; default: recent rows may "
        f"lose {RECENT_TOLERANCE:g}, and all rows together never raise an alarm",
    )


class Accuracy(CountingMonitor):
    """Counts calibrated confidence, right and wrong answers, and sets that covered the actual label.

    The estimated accuracy is the mean confidence of the answered rows. The log odds of the confidence are moved so that
    the mean on the held-out rows is the accuracy there. The estimate is right for rows like the held-out rows (CBPE;
    Garg et al. 2022, "Leveraging unlabeled data to predict out-of-distribution performance", measure its error on other
    rows). So the report also has ``estimate_valid``, which is 0 once the guards flag significantly more rows than their
    budget. A regression has ``mean_error`` and ``coverage`` instead.

    Recently labelled rows are also judged alone, so that many earlier right answers do not hide a later loss of
    accuracy. See :mod:`guards.statistics.recent_blocks` for the windows and their rate of false alarms.
    """

    Params: ClassVar[type[MonitorParams]] = AccuracyParams
    train_counts: Tensor
    heldout_counts: Tensor
    heldout_rows: Tensor
    shift: Tensor

    def __init__(self, params: AccuracyParams, context: Context) -> None:
        """Find the groups monitor that ``params.groups`` names.

        Raises:
            ValueError: there is no groups monitor of that name; there is another accuracy monitor; or a regression,
                which has no accuracy, has a tolerance.
        """
        if params.tolerance is not None and not context.classes:
            raise ValueError("tolerance: it bounds a loss of accuracy, which a regression has not got; leave it out")
        if any(isinstance(other, AccuracyParams) and other.name != params.name for other in context.monitors):
            raise ValueError("there is another accuracy monitor: one is enough")
        named = {p.name: p for p in context.monitors if isinstance(p, GroupsParams)}
        if params.groups is not None and params.groups not in named:
            raise ValueError(f"groups: no groups monitor {params.groups!r}; there are {sorted(named)}")
        grouping = None if params.groups is None else grouping_of(named[params.groups], context)
        levels = () if grouping is None else grouping.levels
        self._columns = OF_CLASSES if context.classes else OF_VALUES
        super().__init__(params, context, (1 + len(levels)) * self._columns)
        self.params, self.grouping, self.levels = params, grouping, levels
        self.may_alarm = bool(context.classes)
        attribute = "" if params.groups is None else named[params.groups].attribute
        self._group_labels = [{"attribute": attribute, "group": level} for level in levels]
        # The numbers of right answers and of rows, for the training rows and for the held-out rows.
        self.register_buffer("train_counts", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("heldout_counts", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("heldout_rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))

    def fit(self, reference: Reference, outcome: Result) -> Self:
        """Count right answers among held-out rows, and calibrate the confidence on them."""
        label, y = outcome.prediction.label, reference.y
        self.heldout_rows = torch.tensor(len(reference.batch))
        if reference.train_hits is not None:
            self.train_counts = torch.tensor(reference.train_hits)
        if label is not None and y is not None:
            right = int((label == y.to(label.device)).sum())
            self.heldout_counts = torch.tensor([right, len(y)])
            if outcome.prediction.probabilities is not None:
                confidence = outcome.prediction.probabilities.amax(1).double().cpu().numpy()
                self.shift = torch.tensor(fit_shift(confidence, (right + 0.5) / (len(y) + 1)), dtype=torch.float64)
        return self

    def tally(self, records: Records) -> npt.NDArray[np.int64]:
        """Count rows when they are answered or, with ``actual``, when their outcomes become known."""
        counts = np.zeros((1 + len(self.levels), self._columns), dtype=np.int64)
        regression = not self.context.classes
        if records.actual is None:
            each = answer_counts(records, float(self.shift), regression=regression)
        else:
            each = outcome_counts(records, records.actual, regression=regression)
        group = None if self.grouping is None else records.groups[self.grouping.name]
        for column, values in each.items():
            counts[0, column] = values.sum()
            if group is not None:
                np.add.at(counts[1:, column], group, values)
        if records.actual is not None and regression:
            add_errors(counts[:1, ERRORS_AT:], np.zeros(len(records), np.int64), records)
            if group is not None:
                add_errors(counts[1:, ERRORS_AT:], group, records)
        return counts.ravel()

    def report(self) -> list[Statistic]:
        """Give estimated and counted figures, and the differences of training, held-out and live accuracy."""
        counts = self._table()
        found = []
        for row, labels in enumerate(({}, *self._group_labels)):
            found += figures(counts[row], labels, regression=not self.context.classes)
        total = counts[0]
        found.append(rate_statistic("flagged_share", total[FLAGGED], total[ROWS], {}))
        found.append(Statistic("estimate_valid", self._valid(total), None, int(total[ROWS]), {}))
        if not self.context.classes:
            return found
        train, reference = self.train_counts.tolist(), self.heldout_counts.tolist()
        return [
            rate_statistic("train_accuracy", train[0], train[1], {}),
            rate_statistic("reference_accuracy", reference[0], reference[1], {}),
            *found,
            drop_statistic("generalisation_gap", (train[0], train[1]), (reference[0], reference[1])),
            self._loss(total),
            *self._recent().shown(),
        ]

    def state(self) -> State:
        """Alarm once the interval of a loss of accuracy exceeds the tolerance, until the loss is back within it.

        A warning means that the guards flag so many rows that the estimated accuracy cannot be trusted.
        """
        total = self._table()[0]
        if total[ROWS] < MINIMUM:
            return "insufficient_data"
        if self.params.tolerance is not None and self.context.classes:
            drop = self._loss(total)
            outside = drop.interval is not None and drop.interval[0] > self.params.tolerance
            self._alarmed = outside or (self._alarmed and (drop.value or 0.0) > self.params.tolerance)
        if self.context.classes:
            recent = self._recent()
            is_outside = recent.outside() is not None
            self._alarmed_recently = is_outside or (self._alarmed_recently and recent.is_beyond())
        if self._alarmed or self._alarmed_recently:
            return "alarm"
        return "warning" if self._valid(total) == 0 else "ok"

    def cause(self) -> Statistic | None:
        """Give the loss of accuracy of the window that alarms, or of all rows; for a regression, the mean error."""
        if not self.context.classes:
            return next((s for s in self.report() if s.name == "mean_error"), None)
        if self._alarmed_recently:
            return self._recent().outside() or self._recent().shown()[-1]
        return self._loss(self._table()[0])

    def series(self) -> list[Series]:
        """Give ``answered_total``, ``expected_correct_total``, ``outcomes_total`` and ``covered_total``."""
        counts = self.counts.reshape(-1, self._columns)
        total = counts[0]
        always = [
            Series("answered_total", "counter", {}, float(total[ANSWERED])),
            Series("covered_total", "counter", {"covered": "true"}, float(total[COVERED])),
            Series("covered_total", "counter", {"covered": "false"}, float(total[UNCOVERED])),
        ]
        if not self.context.classes:
            return always
        return [
            Series("expected_correct_total", "counter", {}, float(total[CONFIDENCE]) / MICRO),
            Series("outcomes_total", "counter", {"correct": "true"}, float(total[RIGHT])),
            Series("outcomes_total", "counter", {"correct": "false"}, float(total[WRONG])),
            *always,
            *(
                Series("group_expected_correct_total", "counter", labels, float(counts[1 + g, CONFIDENCE]) / MICRO)
                for g, labels in enumerate(self._group_labels)
            ),
        ]

    def _table(self) -> npt.NDArray[np.int64]:
        return np.array(self.totals, np.int64).reshape(-1, self._columns)

    def _loss(self, total: npt.NDArray[np.int64]) -> Statistic:
        right, rows = self.heldout_counts.tolist()
        return drop_statistic("accuracy_drop", (right, rows), (int(total[RIGHT]), int(total[RIGHT] + total[WRONG])))

    def _windows(self) -> list[tuple[int, int]]:
        """Give the numbers of right answers and of labels in each window of recent rows, the shortest first."""
        return [(int(window[RIGHT]), int(window[RIGHT] + window[WRONG])) for window in self.recent()]

    def _recent(self) -> RecentAccuracy:
        tolerance = RECENT_TOLERANCE if self.params.tolerance is None else self.params.tolerance
        right, rows = self.heldout_counts.tolist()
        return RecentAccuracy((right, rows), self._windows(), tolerance)

    def _valid(self, total: npt.NDArray[np.int64]) -> float | None:
        """Give 1 if the guards flag no more rows than their budget, up to chance, else 0; None without a budget."""
        budget = self.context.false_alarm_budget
        if not self.context.guards or budget is None:
            return None
        band = budget + BAND * math.sqrt(budget * (1 - budget) / max(int(self.heldout_rows), 1))
        return float(rate_interval(total[FLAGGED], total[ROWS])[0] <= band)
