"""Cuts the values of each column into cells: categories, and ranges of numbers that hold equally many rows."""

from collections.abc import Callable
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

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cuts", torch.empty(0))
        for name in ("cell", "absent"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))

    def fit(self, x: Tensor, categorical: Tensor) -> Self:
        """Choose the cells for rows x (n, d), of which some columns are categorical (d,) bool."""
        cuts, cells, absent, first = [], [], [], 0
        for values, is_category in zip(torch.unbind(x, 1), categorical.tolist(), strict=True):
            own_cuts, own, size = _categories(values) if is_category else _ranges(values)
            cuts.append(own_cuts)
            cells.append(own + first)
            absent.append(size + first)
            first += size + 1
        self.absent = torch.tensor(absent, device=x.device)
        padded = nn.utils.rnn.pad_sequence(cuts, batch_first=True, padding_value=torch.inf)
        self.cuts = nn.functional.pad(padded, (0, 1), value=torch.inf)
        places = nn.utils.rnn.pad_sequence(cells, batch_first=True, padding_value=-1)
        places = nn.functional.pad(places, (0, self.cuts.shape[1] + 1 - places.shape[1]), value=-1)
        self.cell = torch.where(places < 0, self.absent[:, None], places)
        return self

    def forward(self, columns: Tensor) -> Tensor:
        """Give the cells (d, n) of columns (d, n); an unseen category and an infinite number count as missing."""
        return self.bound()(columns)

    def bound(self) -> Callable[[Tensor], Tensor]:
        """Give ``forward`` with the buffers read once."""
        cuts, cell = self.cuts, self.cell

        def cells(columns: Tensor) -> Tensor:
            # A missing value is NaN: larger than every cut, even than the last, which is infinite.
            return cell.gather(1, torch.searchsorted(cuts, columns, right=True))

        return cells


def _ranges(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Cut between neighbouring numbers, if enough rows lie between two cuts: the cuts, the cells, and their number."""
    distinct, counts = torch.unique(values[~values.isnan()], return_counts=True)
    cuts = (distinct[1:] + distinct[:-1]) / 2
    if len(distinct) > RANGES:
        numbers = counts.tolist()
        enough, since, kept = sum(numbers) / RANGES, 0, []
        for place, following in enumerate(numbers[1:]):
            since += numbers[place]
            if since >= enough or following >= enough:
                kept.append(place)
                since = 0
        cuts = cuts[kept]
    return cuts, torch.arange(len(cuts) + 1, device=values.device), len(cuts) + 1


def _categories(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Cut between the codes; rare categories share a cell, and a code that no row has is as good as missing.

    An unseen category is -1: below the first cut, 0.
    """
    counts = values[values >= 0].long().bincount(minlength=1)
    order = counts.argsort(descending=True, stable=True)
    size = min(len(order), CATEGORIES)
    own = torch.empty_like(order)
    own[order] = torch.arange(len(order), device=values.device).clamp_max(size - 1)
    cuts = torch.arange(-1, len(order), device=values.device) + 0.5
    cuts[0] = 0.0
    return cuts, nn.functional.pad(own, (1, 1), value=size), size
