"""Cuts the values of each column into cells: categories, and ranges of numbers that hold equally many rows."""

from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["ValueCells"]

RANGES = 24
"""A numeric column has about so many cells. A frequent value has a cell of its own."""
CATEGORIES = 64
"""If a column has more categories, the rarest of them share a cell."""


class ValueCells(nn.Module):
    """Numbers the cells of all columns through: each column's own cells, and then its cell for missing values."""

    cuts: Tensor
    cell: Tensor
    absent: Tensor
    least: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("cuts", "least"):
            self.register_buffer(name, torch.empty(0))
        for name in ("cell", "absent"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))

    def fit(self, x: Tensor, categorical: Tensor) -> Self:
        """Choose the cells for rows x (n, d), of which some columns are categorical (d,) bool."""
        cuts, cells, first = [], [], 0
        absent = []
        for values, is_category in zip(x.T, categorical.tolist(), strict=True):
            if is_category:
                column_cuts, own = _categories(values)
            else:
                column_cuts = _ranges(values)
                own = torch.arange(len(column_cuts) + 1, device=x.device)
            cuts.append(column_cuts)
            cells.append(own + first)
            absent.append(int(own.max()) + 1 + first)
            first = absent[-1] + 1
        self.cuts = _padded(cuts, torch.inf)
        self.cell = _padded(cells, 0)
        self.absent = torch.tensor(absent, device=x.device)
        self.least = torch.where(categorical.to(x.device), 0.0, -torch.inf)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Give the number of each value's cell (n, d); an unseen category counts as missing."""
        place = torch.searchsorted(self.cuts, x.T.contiguous(), right=True)
        # A missing value is NaN, and compares false.
        return torch.where(x >= self.least, self.cell.gather(1, place).T, self.absent)


def _ranges(values: Tensor) -> Tensor:
    """Cut between neighbouring values, if enough rows lie between two cuts."""
    distinct, counts = values[~values.isnan()].unique(return_counts=True)
    middles = (distinct[1:] + distinct[:-1]) / 2
    if len(distinct) <= RANGES:
        return middles
    target, since = counts.sum() / RANGES, 0
    kept = []
    for index, (count, following) in enumerate(zip(counts[:-1].tolist(), counts[1:].tolist(), strict=True)):
        since += count
        if since >= target or following >= target:
            kept.append(index)
            since = 0
    return middles[kept]


def _categories(values: Tensor) -> tuple[Tensor, Tensor]:
    """Cut between the codes; the cells of rare categories are the same."""
    counts = values[values >= 0].long().bincount(minlength=1)
    order = counts.argsort(descending=True, stable=True)
    own = torch.empty_like(order)
    own[order] = torch.arange(len(order), device=values.device).clamp_max(CATEGORIES - 1)
    return torch.arange(len(order) - 1, device=values.device) + 0.5, own


def _padded(rows: list[Tensor], filling: float) -> Tensor:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filling)
