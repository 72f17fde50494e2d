"""How often the model is right: estimated before labels come, counted as they do, beside train and held-out rows."""

import math
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from guards.columns import Label
from guards.confidence import fit_shift, move_log_odds
from guards.confidence_sequences import asymptotic_mean_interval, mean_interval, rate_interval
from guards.groups.tables import MICRO, OF_ERRORS, add_errors, error_moments, micro
from guards.monitor import Context, CountingMonitor, MonitorParams, Series, State, Statistic
from guards.monitors.groups import GroupsParams, grouping_of
from guards.monitors.recent_accuracy import RecentAccuracy, drop_statistic, rate_statistic
from guards.records import Records
from guards.types import Action, Outcome, Reference

__all__ = ["Accuracy", "AccuracyParams"]

(ROWS, FLAGGED, ANSWERED, CONFIDENCE, CONFIDENCE_SQUARED, RIGHT, WRONG, COVERED, UNCOVERED) = range(ERRORS_AT := 9)
OF_CLASSES = 11
"""Columns of a classification; the last two are empty, so that the totals which earlier versions stored still count."""
OF_VALUES = ERRORS_AT + OF_ERRORS
COVERAGE = ((COVERED, 1), (UNCOVERED, 0))
MINIMUM = 30
BAND = 2.0  # standard errors by which the realised false-alarm rate of clean rows may differ from the budget


RECENT_TOLERANCE = 0.05
"""The loss of accuracy among recent rows that raises no alarm if the config declares no tolerance."""


class AccuracyParams(MonitorParams):
    """Parameters of the accuracy monitor; every bundle has one, called ``accuracy`` unless its config names it."""

    kind: Literal["accuracy"] = "accuracy"
    groups: Label | None = Field(default=None, description="the groups monitor by whose groups it is told apart too")
    tolerance: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="the loss of accuracy since the held-out rows that raises no alarm; default: that of recent rows "
        f"alarms beyond {RECENT_TOLERANCE:g}, that of all rows never",
    )


class Accuracy(CountingMonitor):
    """Sums of calibrated confidence, right and wrong answers, sets that covered the truth: counters all.

    The estimate is the mean of the answered rows' confidence, its log odds moved by what makes it the held-out rows'
    accuracy: right where rows are like those (CBPE; Garg et al. 2022, "Leveraging unlabeled data to predict
    out-of-distribution performance", measure how wrong it is elsewhere). So it carries a flag: ``estimate_valid`` is 0
    once the guards flag significantly more rows than their budget. A regression has ``mean_error`` and ``coverage``.

    What was labelled last is judged by itself too, so that many right answers hide no later fall of accuracy; see
    :mod:`guards.recent` for the windows and for how rarely they alarm by chance.
    """

    Params: ClassVar[type[MonitorParams]] = AccuracyParams
    train_counts: Tensor
    heldout_counts: Tensor
    heldout_rows: Tensor
    shift: Tensor

    def __init__(self, params: AccuracyParams, context: Context) -> None:
        """Find the groups monitor.

        Raises:
            ValueError: there is none of that name, or a tolerance of a regression, which has no accuracy.
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
        self.alarms = bool(context.classes)
        attribute = "" if params.groups is None else named[params.groups].attribute
        self._group_labels = [{"attribute": attribute, "group": level} for level in levels]
        # Right answers and rows, of the rows the model was trained on and of held-out ones.
        self.register_buffer("train_counts", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("heldout_counts", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("heldout_rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))

    def fit(self, reference: Reference, outcome: Outcome) -> Self:
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
        """Count rows as they are answered, or, with ``actual``, as their truth comes to be known."""
        counts = np.zeros((1 + len(self.levels), self._columns), dtype=np.int64)
        each = self._answers(records) if records.actual is None else self._outcomes(records, records.actual)
        group = None if self.grouping is None else records.groups[self.grouping.name]
        for column, values in each.items():
            counts[0, column] = values.sum()
            if group is not None:
                np.add.at(counts[1:, column], group, values)
        if records.actual is not None and not self.context.classes:
            add_errors(counts[:1, ERRORS_AT:], np.zeros(len(records), np.int64), records)
            if group is not None:
                add_errors(counts[1:, ERRORS_AT:], group, records)
        return counts.ravel()

    def _answers(self, records: Records) -> dict[int, npt.NDArray[np.int64]]:
        sure = records.answered & ~np.isnan(records.confidence) if self.context.classes else records.answered
        moved = move_log_odds(records.confidence, float(self.shift))
        confidence = np.where(sure & ~np.isnan(moved), moved, 0.0)
        flagged = records.action > Action.ALLOW if records.flagged is None else records.flagged
        return {
            ROWS: np.ones(len(records), np.int64),
            FLAGGED: flagged.astype(np.int64),
            ANSWERED: sure.astype(np.int64),
            CONFIDENCE: micro(confidence),
            CONFIDENCE_SQUARED: micro(confidence * confidence),
        }

    def _outcomes(self, records: Records, actual: npt.NDArray[Any]) -> dict[int, npt.NDArray[np.int64]]:
        answered = records.answered
        counts: dict[int, npt.NDArray[np.int64]] = {}
        if self.context.classes:
            right = records.predicted == actual
            counts |= {RIGHT: (answered & right).astype(np.int64), WRONG: (answered & ~right).astype(np.int64)}
        else:
            counts |= {RIGHT: answered.astype(np.int64)}
        if records.covered is not None:
            counts |= {value: (answered & (records.covered == mark)).astype(np.int64) for value, mark in COVERAGE}
        return counts

    def report(self) -> list[Statistic]:
        """Give the estimate and the realised figures, and how far apart train, held-out and live accuracy are."""
        counts = self._table()
        found = []
        for row, labels in enumerate(({}, *self._group_labels)):
            found += self._figures(counts[row], labels)
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
        """Alarm once accuracy has fallen by more than the tolerance, until the estimate of it is back within.

        A warning says that the guards flag too many rows for the estimated accuracy to be trusted.
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
        """Give the loss of accuracy: of the window that alarms, or of all rows; of a regression its mean error."""
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

    def _figures(self, row: npt.NDArray[np.int64], labels: dict[str, str]) -> list[Statistic]:
        known = int(row[RIGHT] + row[WRONG])
        coverage = rate_statistic("coverage", row[COVERED], row[COVERED] + row[UNCOVERED], labels)
        if not self.context.classes:
            _, mean, variance = error_moments(row[ERRORS_AT:])
            low, high = asymptotic_mean_interval(mean, variance, known)
            bounds = (float(low), float(high)) if known >= MINIMUM else None
            return [Statistic("mean_error", float(mean) if known else None, bounds, known, labels), coverage]
        n = int(row[ANSWERED])
        sums = row[CONFIDENCE] / MICRO, row[CONFIDENCE_SQUARED] / MICRO
        low, high = mean_interval(*sums, n, (0.0, 1.0))
        return [
            Statistic(
                "expected_accuracy",
                float(sums[0]) / n if n else None,
                (float(low), float(high)) if n else None,
                n,
                labels,
            ),
            rate_statistic("realised_accuracy", row[RIGHT], known, labels),
            coverage,
        ]

    def _loss(self, total: npt.NDArray[np.int64]) -> Statistic:
        right, rows = self.heldout_counts.tolist()
        return drop_statistic("accuracy_drop", (right, rows), (int(total[RIGHT]), int(total[RIGHT] + total[WRONG])))

    def _windows(self) -> list[tuple[int, int]]:
        """Give the right answers and the labels of windows of more and more recent rows."""
        return [(int(window[RIGHT]), int(window[RIGHT] + window[WRONG])) for window in self.recent()]

    def _recent(self) -> RecentAccuracy:
        tolerance = RECENT_TOLERANCE if self.params.tolerance is None else self.params.tolerance
        right, rows = self.heldout_counts.tolist()
        return RecentAccuracy((right, rows), self._windows(), tolerance)

    def _valid(self, total: npt.NDArray[np.int64]) -> float | None:
        """Say whether the guards flag no more than their budget, as far as they were calibrated; None without any."""
        if not self.context.guards:
            return None
        budget = self.context.false_alarm_budget
        band = budget + BAND * math.sqrt(budget * (1 - budget) / max(int(self.heldout_rows), 1))
        return float(rate_interval(total[FLAGGED], total[ROWS])[0] <= band)
