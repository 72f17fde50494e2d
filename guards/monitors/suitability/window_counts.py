"""What is counted of the answered rows of a window, in one array of integers."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from guards.calibration.confidence_shift import move_log_odds
from guards.monitors.answered_rows import Records
from guards.monitors.base import Context
from guards.monitors.groups.group_counts import MICRO, micro
from guards.monitors.streams import Streams
from guards.monitors.suitability.accuracy_model import AccuracyModel
from guards.monitors.suitability.column_pairs import CELLS, ColumnPairs
from guards.monitors.suitability.params import SuitabilityParams
from guards.types import Batch, Reference, Result

__all__ = ["INDICATORS", "ROWS", "UNFAMILIAR", "AnsweredRows", "WindowCounts", "mean_expected"]

Counts = npt.NDArray[np.int64]
ROWS, UNFAMILIAR, EXPECTED, EXPECTED_SQUARED, INDICATORS = range(5)
RARE = 0.001
"""A bin that fewer reference rows have makes a row unfamiliar: the reference says little about such rows."""


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredRows:
    """The answered rows of a batch: ``places`` (indicators, n), ``confidence`` (n,) and ``unfamiliar`` (n,).

    ``added`` (n,) is what a row's bins add to its confidence. ``answered`` marks these rows among the batch's rows.
    """

    places: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    added: npt.NDArray[np.float64]
    unfamiliar: npt.NDArray[np.bool_]
    answered: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.confidence)


class WindowCounts(nn.Module):
    """Turns rows into indicators: the bin of every stream, then the cell of every pair of columns.

    ``rare`` (bins,) marks the bins that few reference rows have. The expected accuracy is counted in millionths.
    """

    rare: Tensor

    def __init__(self, params: SuitabilityParams, context: Context) -> None:
        super().__init__()
        self.streams = Streams(params.streams, context)
        self.pairs = ColumnPairs(self.streams)
        self.indicators = self.streams.size + CELLS * self.pairs.count
        self.size = INDICATORS + self.indicators
        self.register_buffer("rare", torch.zeros(self.streams.size, dtype=torch.bool))

    def fit(self, reference: Reference, outcome: Result) -> Self:
        """Set the bins and the pairs on the reference."""
        self.streams.fit(reference, outcome)
        places = self.streams.places(reference.batch, outcome)
        self.rare = torch.bincount(places.flatten(), minlength=self.streams.size) < RARE * len(reference.batch)
        self.pairs.fit(places)
        return self

    def rows(self, batch: Batch, outcome: Result, model: AccuracyModel) -> AnsweredRows:
        """Take the answered rows of a batch. A row is unfamiliar if a guard flags it, or if one of its bins is rare."""
        records = Records.of(batch, outcome)
        places = self.streams.places(batch, outcome)
        unfamiliar = (self.rare[places].any(0) | outcome.verdict.alarmed).cpu().numpy()
        indicators = torch.cat([places, self.streams.size + self.pairs.cells(places)]).cpu().numpy()
        answered = records.answered & ~np.isnan(records.confidence)
        return AnsweredRows(
            places=indicators[:, answered],
            confidence=records.confidence[answered],
            added=model.added(places).cpu().numpy()[answered],
            unfamiliar=unfamiliar[answered],
            answered=answered,
        )

    def count(self, rows: AnsweredRows, part: slice, shift: float) -> Counts:
        """Count some of the rows: (size,). ``shift`` moves the log odds of the confidence."""
        expected = move_log_odds(rows.confidence[part], shift) + rows.added[part]
        counts = np.zeros(self.size, np.int64)
        counts[INDICATORS:] = np.bincount(rows.places[:, part].ravel(), minlength=self.indicators)
        counts[:INDICATORS] = (
            len(expected),
            rows.unfamiliar[part].sum(),
            micro(expected).sum(),
            micro(expected * expected).sum(),
        )
        return counts


def mean_expected(counts: Counts) -> tuple[float, float, float]:
    """Give the mean of the rows' expected accuracy p, its variance over rows, and the mean of p (1 - p)."""
    rows = max(1, int(counts[ROWS]))
    mean, squares = (float(counts[column]) / MICRO / rows for column in (EXPECTED, EXPECTED_SQUARED))
    return mean, max(0.0, squares - mean * mean), max(0.0, mean - squares)
