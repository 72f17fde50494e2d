"""Normal scores: the normal quantile of a number's rank in the reference."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["NormalScores"]

KNOTS = 256
"""A column's normal scores are kept at so many of its values, and interpolated between them."""


class NormalScores(nn.Module):
    """The normal score of each number; beyond the reference's values, the score of the last value."""

    first: Tensor
    last: Tensor
    knots: Tensor
    inner: Tensor
    scores: Tensor
    slopes: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("first", "last", "knots", "inner", "scores", "slopes"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, x: Tensor) -> Self:
        """Learn the ranks of the numbers x (n, m), with m at least 1."""
        fitted = [_knots(column) for column in x.T]
        self.first, self.last = (torch.stack([knots[end] for knots, _ in fitted])[:, None] for end in (0, -1))
        self.knots, self.scores = (
            nn.utils.rnn.pad_sequence([each[part] for each in fitted], batch_first=True, padding_value=torch.inf)
            for part in (0, 1)
        )
        self.inner = self.knots[:, 1:].contiguous()
        slopes = self.scores.diff(dim=1) / self.knots.diff(dim=1)
        self.slopes = nn.functional.pad(torch.where(slopes.isfinite(), slopes, 0.0), (0, 1))
        return self

    def forward(self, columns: Tensor) -> Tensor:
        """Give the normal scores (m, n) of columns of numbers (m, n); NaN stays NaN."""
        return self.bound()(columns)

    def bound(self) -> Callable[[Tensor], Tensor]:
        """Give ``forward`` with the buffers read once."""
        first, last, knots, inner = self.first, self.last, self.knots, self.inner
        scores, slopes = self.scores, self.slopes

        def normal_scores(columns: Tensor) -> Tensor:
            # A value below the first knot is taken as the first knot, a value above the last knot as the last knot.
            values = torch.clamp(columns, first, last)
            place = torch.searchsorted(inner, values, right=True)
            beyond = values - knots.gather(1, place)
            return torch.addcmul(scores.gather(1, place), beyond, slopes.gather(1, place))

        return normal_scores


def _knots(values: Tensor) -> tuple[Tensor, Tensor]:
    """Choose distinct values of a column in ascending order, and give their normal scores; ties get a middle rank."""
    distinct, counts = torch.unique(values[values.isfinite()], return_counts=True)
    if not len(distinct):
        return values.new_zeros(1), values.new_zeros(1)
    middle = (counts.cumsum(0) - counts / 2) / counts.sum()
    if len(distinct) > KNOTS:
        levels = torch.linspace(float(middle[0]), float(middle[-1]), KNOTS, device=values.device)
        kept = torch.unique(torch.searchsorted(middle, levels).clamp_max(len(distinct) - 1))
        distinct, middle = distinct[kept], middle[kept]
    return distinct, torch.special.ndtri(middle)
