"""The grid of a numeric column: if all values of the reference are whole, a fraction is a fault."""

import torch
from torch import Tensor

__all__ = ["grid_steps", "off_grid"]

STEPS = (1000.0, 100.0, 10.0, 1.0, 0.1, 0.01)
MOST_STEPS = 2.0**18
"""A value of more steps is on every grid: float32 cannot tell."""
ROUNDING = 2.0**-22
"""How far from a multiple of the step a value may be, as a share of the value: float32 stores 0.1 as a number nearby."""


def grid_steps(x: Tensor) -> Tensor:
    """Find the largest step of which all values of a column are multiples: (d,), 0 if there is none. x is (n, d)."""
    steps = x.new_zeros(x.shape[1])
    for step in reversed(STEPS):
        size = torch.full_like(steps, step)
        on_grid = ~(off_grid(x, size) | (x.abs() > step * MOST_STEPS)).any(0)
        # A column without any other value than zero is on every grid.
        steps = torch.where(on_grid & (x.nan_to_num(0.0) != 0).any(0), size, steps)
    return steps


def off_grid(x: Tensor, steps: Tensor) -> Tensor:
    """Mark values (n, d) that are no multiple of their column's step (d,); a missing value is not marked."""
    count = x / steps
    size = count.abs()
    return ((count - count.round()).abs() > size * ROUNDING) & (size < MOST_STEPS)
