"""Turns scores into p-values: a row's rank among the scores of held-out clean rows."""

import math
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["Calibration", "strangest"]


class Calibration(nn.Module):
    """Split-conformal p-values from the scores of held-out clean rows.

    A clean row exchangeable with the calibration rows has P(p <= a) <= a for every a; if scores have no ties,
    P(p <= a) = floor(a (n + 1)) / (n + 1). Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world".
    """

    scores: Tensor

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)

    @classmethod
    def from_scores(cls, scores: Tensor) -> Self:
        """Calibrate on scores (n,) of clean rows, or (g, n) for g guards; NaN counts as the strangest score.

        >>> Calibration.from_scores(torch.tensor([1.0, 2.0, 3.0])).p_value(torch.tensor([0.0, 2.0, 9.0]))
        tensor([1.0000, 0.7500, 0.2500])
        """
        if scores.ndim not in (1, 2) or not scores.shape[-1]:
            raise ValueError(f"calibration needs at least one score of each guard, got shape {tuple(scores.shape)}")
        return cls(torch.sort(strangest(scores.detach().float())).values)

    def __len__(self) -> int:
        """Count the calibration rows."""
        return self.scores.shape[-1]

    def rank(self, score: Tensor) -> Tensor:
        """Rank each score: 1 plus the number of calibration scores that are at least as strange, from 1 to n + 1."""
        return len(self) + 1 - torch.searchsorted(self.scores, strangest(score).contiguous())

    def p_value(self, score: Tensor) -> Tensor:
        """Turn scores into p-values in [1 / (n + 1), 1]; a tie with a calibration score raises the p-value."""
        return self.rank(score) / (len(self) + 1)


def strangest(score: Tensor) -> Tensor:
    """Replace NaN scores by +inf: a row that cannot be judged counts as strange."""
    return torch.nan_to_num(score, nan=math.inf, posinf=math.inf, neginf=-math.inf)
