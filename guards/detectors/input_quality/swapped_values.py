"""Two columns of repeating numbers that fit better if they are swapped."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from guards.detectors.input_quality.familiar_values import repeating

__all__ = ["SwappedValues"]

MOST_VALUES, MOST_COLUMNS = 256, 32
"""A column with more values is in no pair. Among more columns, some two look swapped in most rows: there is no pair."""


class SwappedValues(nn.Module):
    """The log of the odds of a swap, for each pair of columns whose numbers repeat.

    The odds compare the shares of the two values in each other's column with their shares in their own column: p_a(x_b)
    p_b(x_a) / (p_a(x_a) p_b(x_b)). The shares are those of single values. A range of numbers would not do: 40 hours of
    work a week are frequent, and 37 hours are rare, while ages of 37 and of 40 years are equally frequent. A value that
    the reference lacks has an equal part of the share of new values (Good 1953). If one of the two values is missing,
    the log of the odds is 0.

    ``places`` (c,) are the places of the columns. ``values`` (v,) are the values of all of them, and ``shares``
    (c, v + 2) the logs of the shares of each value, of a new value, and of a missing value.
    """

    places: Tensor
    values: Tensor
    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.empty(0, dtype=torch.int64))
        for name in ("values", "shares"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, x: Tensor, categorical: Tensor) -> Self:
        """Learn the shares of the values of rows x (n, d), of which some columns are categorical (d,) bool."""
        found = {place: repeating(x[:, place]) for place in (~categorical).nonzero()[:, 0].tolist()}
        known = {place: each for place, each in found.items() if each is not None and len(each[0]) <= MOST_VALUES}
        if not 1 < len(known) <= MOST_COLUMNS:
            known = {}
        self.places = torch.tensor(list(known), dtype=torch.int64, device=x.device)
        self.values = torch.unique(torch.cat([x.new_empty(0), *(distinct for distinct, _, _ in known.values())]))
        self.shares = x.new_full((len(known), len(self.values) + 2), torch.nan)
        for row, (distinct, counts, new) in zip(self.shares, known.values(), strict=True):
            row[:-1] = new / len(distinct)
            row[torch.searchsorted(self.values, distinct)] = counts / counts.sum()
        self.shares.log_()
        return self

    def forward(self, columns: Tensor) -> Tensor:
        """Give the log of the odds of a swap (c, c, n), for each two of the c columns, of columns (d, n) of a table."""
        return self.bound()(columns)

    def bound(self) -> Callable[[Tensor], Tensor]:
        """Give ``forward`` with the buffers read once."""
        places, values, shares = self.places, self.values, self.shares
        c, new, missing = len(places), torch.tensor(len(values), device=values.device), len(values) + 1
        # A number beyond the last value finds infinity, and differs from it.
        ends = nn.functional.pad(values, (0, 1), value=torch.inf)

        def odds(columns: Tensor) -> Tensor:
            numbers = columns.index_select(0, places)
            place = torch.searchsorted(values, numbers)
            place = torch.where(ends.take(place) == numbers, place, new).masked_fill_(numbers.isnan(), missing)
            share = shares.index_select(1, place.flatten()).view(c, c, -1)
            gain = share - share.diagonal().T
            return (gain + gain.transpose(0, 1)).nan_to_num_(0.0)

        return odds
