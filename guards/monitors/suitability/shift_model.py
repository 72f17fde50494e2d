"""The reference as the suitability monitor keeps it: moments, no rows; and the estimate for the counts of a window."""

from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from guards.calibration.confidence_shift import fit_shift, move_log_odds
from guards.monitors.suitability.accuracy_model import AccuracyModel
from guards.monitors.suitability.label_shift import LabelShift
from guards.monitors.suitability.reference_moments import ReferenceMoments
from guards.monitors.suitability.verdict import Estimate
from guards.monitors.suitability.window_counts import (
    INDICATORS,
    ROWS,
    UNFAMILIAR,
    AnsweredRows,
    WindowCounts,
    mean_expected,
)

__all__ = ["ShiftModel"]

COMMON = 0.003
"""Indicators of fewer reference rows are left out: each would be a direction that few rows decide."""
ROWS_A_DIRECTION = 5
"""Labelled held-out rows that each direction of the indicators needs."""
FEWEST = 500
LARGEST = 3000
"""The most indicators: their covariance matrix has this number squared."""
CHUNK = 2048


class ShiftModel(nn.Module):
    """Moments of the streams' bins, moments of bins and pairs, and the two explanations of a loss of accuracy."""

    accuracy: Tensor
    shift: Tensor
    unfamiliar: Tensor

    def __init__(self, counts: WindowCounts, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.bins, self.all = ReferenceMoments(counts.streams.size), ReferenceMoments(counts.indicators)
        self.accuracy_model = AccuracyModel(len(counts.streams.bins), counts.streams.size)
        self.label_shift = LabelShift()
        self.register_buffer("accuracy", torch.zeros((), dtype=torch.float64))
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))
        self.register_buffer("unfamiliar", torch.zeros((), dtype=torch.float64))

    @property
    def fitted(self) -> bool:
        """Whether there were labels to learn from."""
        return int(self.bins.rows) > 0

    def fit(self, rows: AnsweredRows, right: npt.NDArray[np.bool_], y: npt.NDArray[np.int64]) -> Self:
        """Learn from the reference's answered rows, whether each answer is right (n,), and the labels y (n,).

        Raises:
            ValueError: there are too few rows, or too many bins.
        """
        n = len(rows)
        if n < FEWEST:
            raise ValueError(f"suitability needs at least {FEWEST} labelled calibration rows, there are {n}")
        share = np.bincount(rows.places.ravel(), minlength=len(self.all.kept)) / n
        kept = torch.from_numpy(share >= COMMON)
        if int(kept.sum()) > LARGEST:
            raise ValueError(
                f"suitability compares at most {LARGEST} bins, and the reference fills {int(kept.sum())}: "
                "lower `bins`, or `exclude` columns"
            )
        self.accuracy = torch.tensor((right.sum() + 0.5) / (n + 1), dtype=torch.float64)
        self.shift = torch.tensor(fit_shift(rows.confidence, float(self.accuracy)), dtype=torch.float64)
        self.unfamiliar = torch.tensor(rows.unfamiliar.mean(), dtype=torch.float64)
        confidence = move_log_odds(rows.confidence, float(self.shift))
        by_class = np.eye(self.classes)[y]
        values = torch.from_numpy(np.column_stack([confidence, right - confidence, by_class]))
        products, sums = _sums(torch.from_numpy(rows.places), kept, values)
        own = kept[: len(self.bins.kept)]
        bins = int(own.sum())
        self.all.fit(kept, products, n)
        self.bins.fit(own, products[:bins, :bins], n)
        if n < (needed := ROWS_A_DIRECTION * self.all.rank):
            raise ValueError(
                f"suitability needs {needed} labelled calibration rows for {self.all.rank} directions of the bins, "
                f"there are {n}: lower `bins`, `exclude` columns, or give more rows"
            )
        self.accuracy_model.fit(self.bins, values[:, 0], values[:, 1], (sums[:bins, 0], sums[:bins, 1]))
        right_by_class = values[torch.from_numpy(right), 2:].sum(0)
        self.label_shift.fit(self.bins, values[:, 2:].sum(0), right_by_class, sums[:bins, 2:])
        return self

    def estimate(self, counts: npt.NDArray[np.int64]) -> Estimate:
        """Estimate the accuracy of a window from its counts (size,)."""
        rows = int(counts[ROWS])
        indicators = counts[INDICATORS:]
        shift = self.bins.shift(indicators[: len(self.bins.kept)], rows)
        standardised = self.bins.standardised(shift)
        both = self.all.standardised(self.all.shift(indicators, rows))
        expected, between, within = mean_expected(counts)
        of_accuracy, of_loss = self.accuracy_model.variances_of(self.bins, shift)
        return Estimate(
            reference=float(self.accuracy),
            reference_variance=float(self.accuracy * (1 - self.accuracy)) * self.bins.noise(rows),
            accuracy=expected,
            accuracy_variance=of_accuracy + within / rows,
            loss_variance=of_loss + between / rows,
            labels=self.label_shift.explain(self.bins, standardised, rows),
            unfamiliar=max(0.0, float(counts[UNFAMILIAR]) / rows - float(self.unfamiliar)),
            divergence=self.bins.divergence(standardised, rows),
            pair_divergence=self.all.divergence(both, rows),
        )


def _sums(places: Tensor, kept: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Sum x x' (k, k) and x v' (k, v) over rows with indicators x and values v; ``places`` (indicators, n)."""
    size = int(kept.sum())
    products = torch.zeros((size, size), dtype=torch.float64)
    sums = torch.zeros((size, values.shape[1]), dtype=torch.float64)
    for start in range(0, places.shape[1], CHUNK):
        some = places[:, start : start + CHUNK].T
        ones = torch.zeros((len(some), len(kept))).scatter_(1, some, 1.0)[:, kept]
        products += (ones.T @ ones).double()  # whole numbers below 2 ** 24: exact
        sums += ones.double().T @ values[start : start + CHUNK]
    return products, sums
