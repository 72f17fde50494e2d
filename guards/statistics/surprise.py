"""Scores of several views of a row, on one scale: how surprising each score is among reference rows."""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["Surprise"]

KNOTS = 64
"""How many points of a view's survival function are kept."""
TAIL_ROWS = 10
"""How many of the largest reference scores say how fast the survival function falls beyond the largest score."""


class Surprise(nn.Module):
    """Minus the log of a score's p-value among reference scores of the same view, in nats.

    Views with different scales become comparable: the view with the largest surprise is the view in which the row is
    strangest. Inside the reference, the surprise interpolates -log((1 + #{s_i >= s}) / (n + 1)), so ties are
    conservative. Above the largest reference score, the surprise grows linearly, and the mean excess of the ten largest
    scores is its scale (an exponential tail; Pickands 1975, "Statistical inference using extreme order statistics"). So
    far rows keep their order, and a heavy tail is not more surprising than a light tail.

    A surprise is no calibrated p-value: the detector's score, made of surprises, is calibrated like any other score.
    """

    knots: Tensor
    levels: Tensor
    slopes: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("knots", "levels", "slopes"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, scores: Tensor) -> Self:
        """Learn the survival function of each view from the scores (n, v) of reference rows.

        Raises:
            ValueError: there is no row, or a score is not finite.
        """
        if not len(scores) or not scores.isfinite().all():
            raise ValueError("surprises need finite scores of at least one reference row")
        n = len(scores)
        ordered = scores.double().T.contiguous().sort(dim=1).values
        survivors = torch.unique(torch.logspace(math.log10(n), 0, KNOTS, dtype=torch.float64).round().long())
        at = (n - survivors.flip(0)).to(scores.device)
        knots = ordered[:, at].contiguous()
        counts = n - torch.searchsorted(ordered, knots)
        levels = -((1 + counts) / (n + 1)).log()
        widths = knots.diff(dim=1)
        inner = torch.where(widths > 0, levels.diff(dim=1) / widths, 0.0)
        tail = ordered[:, n - min(TAIL_ROWS, 1 + n // 20) :]
        excess = (tail - tail[:, :1]).mean(1, keepdim=True)
        # Never near zero: if the largest reference scores are alike, rounding errors would be surprising.
        floor = 1e-3 * ordered.std(dim=1, correction=0, keepdim=True) + 1e-5 * tail[:, -1:].abs() + 1e-9
        slopes = torch.cat([inner, 1 / torch.maximum(excess, floor)], dim=1)
        self.knots, self.levels, self.slopes = knots.float(), levels.float(), slopes.float()
        return self

    def forward(self, scores: Tensor) -> Tensor:
        """Turn scores (n, v) into surprises (n, v), at least 0; NaN stays NaN."""
        return self.bound()(scores)

    def bound(self) -> Callable[[Tensor], Tensor]:
        """Give ``forward`` with the buffers read once: of a few rows, reading takes a fifth of the time."""
        knots, levels, slopes = self.knots, self.levels, self.slopes
        inner = knots[:, 1:].contiguous()

        def surprise(scores: Tensor) -> Tensor:
            by_view = scores.T.contiguous()
            segment = torch.searchsorted(inner, by_view)
            beyond = (by_view - knots.gather(1, segment)).clamp_min_(0)
            return levels.gather(1, segment).add_(beyond.mul_(slopes.gather(1, segment))).T

        return surprise
