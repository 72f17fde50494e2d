"""Compares the scale of a file's images or tensors, the range of most values, with the reference."""

import math
from pathlib import Path

import torch
from torch import Tensor

from guards.notices import Notices
from guards.types import Rows

__all__ = ["compare_spread", "spread_of"]

VALUES = 1 << 20
QUANTILES = (0.05, 0.95)
FEWEST = 30
"""The least number of rows that shows a scale."""
TIMES = 3.0
PICTURE_TIMES = 10.0
"""Pictures have one scale, [0, 1], and sound pictures may be dark: only a much smaller spread is another scale."""
BELOW = 0.1
"""If at least this share of the spread lies below zero, negative values are not accidental."""


def spread_of(x: Tensor) -> tuple[float, float] | None:
    """Give the 5 % and the 95 % quantile of all values of the rows x (n, ...); None if there are too few rows."""
    if len(x) < FEWEST:
        return None
    values, row = x.reshape(-1), x[0].numel()
    step = max(1, len(values) // VALUES)
    while math.gcd(step, row) > 1:  # otherwise all values would come from the same few places of a row
        step += 1
    low, high = torch.quantile(values[::step].double(), torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    return low, high


def compare_spread(
    rows: Rows, reference: tuple[float, float] | None, *, kind: str, path: Path, notices: Notices
) -> None:
    """Warn if the rows of a file are on another scale than the ``reference``, given by its spread."""
    found = None if reference is None or kind == "tabular" else spread_of(rows.x)
    if reference is None or found is None:
        return
    (low, high), (first, last) = reference, found
    usual, width = high - low, last - first
    if not usual or not width:
        return
    told = (
        f"{path}: 90 % of the values lie from {first:.3g} to {last:.3g}, but the reference's values from {low:.3g} to "
        f"{high:.3g}"
    )
    most = PICTURE_TIMES if kind == "image" else TIMES
    if width > most * usual or usual > most * width:
        notices.warn(
            f"{told}: the spread is {width / usual:.3g} times as large; the file looks as if it was not scaled as the "
            "reference was, or scaled twice"
        )
    elif low < -BELOW * usual and first >= 0:
        notices.warn(f"{told}, which reach below zero; the file looks as if it was not normalised as the reference was")
    elif first < -BELOW * width and low >= 0:
        notices.warn(f"{told}, which do not reach below zero; the file looks as if it was normalised twice")
