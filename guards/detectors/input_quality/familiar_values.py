"""Numbers that a column never has: fractions among whole numbers, and new values if the column's values repeat."""

import math
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["FamiliarValues", "repeating"]

STEPS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
MOST_STEPS = 2.0**18
"""A column with values of more steps has no grid: float32 could not tell."""
ROUNDING = 2.0**-22
"""How far from a multiple of the step a value may be, as a share of the value: float32 rounds 0.1, too."""
NEARBY = 1e-4
"""How far from a familiar value a corrected value may be, as a share of the value: people use 0.4536 for 0.45359237."""
MOST_VALUES = 2048
RARE = 0.01
"""A column's values repeat if a new value is expected in less than this share of rows."""


class FamiliarValues(nn.Module):
    """The surprise of an unfamiliar number, in nats.

    If all n values of the reference are multiples of a step, another value counts log(n + 1). If the reference's values
    repeat, so that a value which the reference lacks is rare, such a value counts -log of the share of new values.

    The share of new values is estimated by the share of values that occur once: Good 1953, "The population frequencies
    of species and the estimation of population parameters".
    """

    steps: Tensor
    values: Tensor
    never: Tensor
    new: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("steps", "values", "never", "new"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, x: Tensor, categorical: Tensor) -> Self:
        """Learn the steps and the values of rows x (n, d), of which some columns are categorical (d,) bool."""
        self.steps = torch.where(categorical, 0.0, _steps(x))
        self.never = torch.log1p((~x.isnan()).sum(0).float())
        values, new = [], []
        for column, is_category in zip(x.T, categorical.tolist(), strict=True):
            found = None if is_category else repeating(column)
            values.append(column[:0] if found is None else found[0])
            new.append(0.0 if found is None else -math.log(found[2]))
        padded = nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=math.inf)
        self.values = nn.functional.pad(padded, (0, 1), value=math.inf)  # not empty, even if no column's values repeat
        self.new = torch.tensor(new, device=x.device)
        return self

    def forward(self, x: Tensor, missing: Tensor) -> Tensor:
        """Give the surprise of each value of rows x (n, d), some of which are ``missing`` (n, d) and count zero."""
        columns = x.T.contiguous()
        place = torch.searchsorted(self.values, columns).clamp_max_(self.values.shape[1] - 1)  # NaN is after the last
        known = self.values.gather(1, place)
        surprise = (known != columns).T * self.new
        return torch.where(_off_grid(x, self.steps, ROUNDING), self.never, surprise).masked_fill_(missing, 0.0)

    def know(self, values: Tensor, columns: Tensor) -> Tensor:
        """Return whether columns (k,) have such values (k, r) or values nearby, as people round factors of units."""
        own = self.values[columns]
        place = torch.searchsorted(own, values).clamp_max_(own.shape[1] - 1)
        near = torch.zeros_like(values, dtype=torch.bool)
        for neighbour in (place, (place - 1).clamp_min(0)):
            near |= (own.gather(1, neighbour) - values).abs() <= NEARBY * values.abs()
        repeated = (self.new[columns] > 0)[:, None]
        return torch.where(repeated, near, ~_off_grid(values, self.steps[columns, None], NEARBY))


def repeating(column: Tensor) -> tuple[Tensor, Tensor, float] | None:
    """Give the values of a column (n,) of numbers, their counts, and the share of new values, if the values repeat."""
    distinct, counts = torch.unique(column[~column.isnan()], return_counts=True)
    share = (int((counts == 1).sum()) + 1) / (int(counts.sum()) + 1)
    return (distinct, counts, share) if share < RARE and len(distinct) <= MOST_VALUES else None


def _off_grid(x: Tensor, steps: Tensor, rounding: float) -> Tensor:
    """Mark values that are no multiple of their column's step, which is 0 if there is none; not missing values."""
    count = x / steps
    return (count - count.round()).abs_() > count.abs_() * rounding


def _steps(x: Tensor) -> Tensor:
    """Find the largest step of which all values of a column are multiples: (d,), 0 if there is none. x is (n, d)."""
    steps = x.new_zeros(x.shape[1])
    # A column that is zero everywhere is on every grid.
    varied = (x.nan_to_num(0.0) != 0).any(0)
    for step in STEPS:
        size = torch.full_like(steps, step)
        on_grid = ~(_off_grid(x, size, ROUNDING) | (x.abs() > step * MOST_STEPS)).any(0)
        steps = torch.where(on_grid & varied, size, steps)
    return steps
