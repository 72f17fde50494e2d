"""Cumulative nonconformity of labels: the scores behind adaptive prediction sets, APS and RAPS."""

import math
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["CumulativeScores"]

PENALTIES = (0.001, 0.01, 0.1, 0.2, 0.5)
"""The penalties that RAPS chooses from, as in Angelopoulos et al. 2021."""


class CumulativeScores(nn.Module):
    """Score a label by the probability of all more probable labels, plus a random part of the label's own.

    With a ``penalty``, each rank beyond ``free`` ranks adds that much: large sets then grow more slowly. Without a
    penalty, the sets of these scores are APS: Romano, Sesia & Candes 2020, "Classification with valid and adaptive
    coverage". With a penalty they are RAPS: Angelopoulos, Bates, Malik & Jordan 2021, "Uncertainty sets for image
    classifiers using conformal prediction".
    """

    penalty: Tensor
    free: Tensor

    def __init__(self, penalty: float = 0.0, free: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("penalty", torch.tensor(penalty, dtype=torch.float32))
        self.register_buffer("free", torch.tensor(free, dtype=torch.float32))

    def forward(self, probabilities: Tensor, draws: Tensor | None = None) -> Tensor:
        """Score every label (n, k) of rows with ``probabilities`` (n, k) and uniform ``draws`` (n,).

        Without draws, each label gets the lowest score that a draw could give: the sets are then the largest.
        """
        sorted_, order = probabilities.sort(dim=1, descending=True, stable=True)
        score = sorted_.cumsum(1) - sorted_
        if draws is not None:
            score = score + draws[:, None] * sorted_
        beyond = torch.arange(1, sorted_.shape[1] + 1, device=score.device, dtype=score.dtype) - self.free
        return torch.empty_like(score).scatter_(1, order, score + self.penalty * beyond.clamp(min=0))

    @classmethod
    def regularised(cls, probabilities: Tensor, y: Tensor, draws: Tensor, coverage: float) -> Self:
        """Choose RAPS's two parameters on labelled rows (n, k) that are no calibration rows.

        ``free`` is the rank within which the true label lies for the share ``coverage`` of the rows; the penalty is the
        one whose sets are smallest on average on these rows (appendix E of Angelopoulos et al. 2021).

        Raises:
            ValueError: n rows are too few for the coverage.
        """
        n = len(y)
        position = math.ceil((n + 1) * coverage - 1e-9)
        if position > n:
            raise ValueError(f"{n} rows cannot choose the penalty of raps for a coverage of {coverage:g}")
        true = y.long()[:, None]
        rank = 1 + (probabilities > probabilities.gather(1, true)).sum(1)
        free = float(rank.sort().values[position - 1])

        def mean_size(penalty: float) -> float:
            scores = cls(penalty, free).to(probabilities.device)(probabilities, draws)
            radius = scores.gather(1, true)[:, 0].sort().values[position - 1]
            return float((scores <= radius).sum(1).double().mean())

        return cls(min(PENALTIES, key=mean_size), free)
