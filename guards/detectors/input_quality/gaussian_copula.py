"""A density of rows whose numbers depend on each other closely: a Gaussian of the numbers' normal scores."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from guards.detectors.input_quality.normal_scores import NormalScores

__all__ = ["GaussianCopula"]

LEAST_SHRINKAGE = 0.01
"""Weight of independence: columns that determine each other would else make the smallest rounding surprising."""
MOST_CELLS = 1024
"""If categories and ranges have more cells, only the most frequent cells are known to the Gaussian."""


class GaussianCopula(nn.Module):
    """The lift of each number: the log of its density by itself over its density given the row's other values.

    The normal scores of the numbers, with an indicator of each category, have a shrunk Gaussian density. A missing
    number is replaced by its mean given the other values, and its lift is zero. Categories have no lift here:
    ``pushes`` (c, m) says how a category's cell moves the numbers.

    Liu, Lafferty & Wasserman 2009, "The nonparanormal"; shrinkage of Chen et al. 2010, "Shrinkage algorithms for MMSE
    covariance estimation".
    """

    numeric: Tensor
    pushes: Tensor
    precision: Tensor
    fill: Tensor
    alone: Tensor
    constant: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scores = NormalScores()
        self.register_buffer("numeric", torch.empty(0, dtype=torch.int64))
        for name in ("pushes", "precision", "fill", "alone", "constant"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, x: Tensor, cell: Tensor, absent: Tensor, categorical: Tensor) -> Self:
        """Learn the Gaussian of rows x (n, d) with some columns that are not ``categorical`` (d,).

        ``cell`` (n, d) are the cells of the values, and ``absent`` (d,) is each column's cell for missing values.
        """
        n, m = len(x), int((~categorical).sum())
        self.numeric = (~categorical).nonzero()[:, 0]
        numbers = x[:, self.numeric]
        scores = self.scores.fit(numbers)(numbers.T.contiguous()).T.nan_to_num(0.0)
        cells = cell[:, categorical]
        counts = cells.flatten().bincount(minlength=int(absent[-1]) + 1)
        counts[absent] = 0
        share = counts / n
        known = torch.nonzero((share > 0) & (share < 1))[:, 0]
        known = known[share[known].argsort(descending=True, stable=True)[:MOST_CELLS]]
        spread = (share * (1 - share)).sqrt()[known]
        column_of = torch.full((int(absent[-1]) + 1,), len(known), device=x.device)
        column_of[known] = torch.arange(len(known), device=x.device)
        hot = torch.zeros((n, len(known) + 1), device=x.device).scatter_(1, column_of[cells], 1.0)[:, :-1]
        rows = torch.cat([scores, (hot - share[known]) / spread], dim=1)
        covariance = _shrunk((rows.T @ rows / n).double(), n)
        precision = torch.linalg.inv(covariance)
        own, variance = precision.diagonal()[:m], covariance.diagonal()[:m]
        # Scaled so that the log of a number's density given the others is minus the square of what they push it by.
        scaled = (precision[:, :m] / (2 * own).sqrt()).float()
        self.precision, self.fill = scaled[:m], -(2 / own).sqrt().float()
        self.alone, self.constant = (0.5 / variance).sqrt().float(), -0.5 * (own * variance).log().float()
        # What a category pushes the numbers by; a column without an indicator pushes by the mean of its indicators.
        pushes = scaled[m:] / spread[:, None]
        self.pushes = x.new_zeros((int(absent[-1]) + 1, m)).index_copy_(0, known, pushes)
        column = torch.bucketize(torch.arange(len(self.pushes), device=x.device), absent)
        mean = x.new_zeros((len(absent), m)).index_add_(0, column, self.pushes * share[:, None])
        self.pushes -= mean[column]
        self.pushes[absent] = 0.0
        return self

    def forward(self, columns: Tensor, cell: Tensor) -> Tensor:
        """Give the lift of each number (n, m), in nats, of columns (d, n) with the cells (n, d) of their values."""
        return self.bound()(columns, nn.functional.embedding(cell, self.pushes).sum(1), False)

    def bound(self) -> Callable[[Tensor, Tensor, bool], Tensor]:
        """Give the function from columns (d, n) and the sums (n, m) of ``pushes`` to the lifts (n, m).

        If its third argument is true, no number is missing.
        """
        normal_scores, numeric = self.scores.bound(), self.numeric
        precision, fill, alone, constant = self.precision, self.fill, self.alone, self.constant
        zero = torch.zeros_like(fill)  # torch would make a tensor of a number in each call

        def lift(columns: Tensor, push: Tensor, whole: bool) -> Tensor:
            numbers = columns.index_select(0, numeric)
            scores = normal_scores(numbers).T
            if whole:
                push = torch.addmm(push, scores, precision)
                return against(scores, push)
            missing = numbers.isnan().T
            scores = scores.masked_fill_(missing, 0.0)
            push = torch.addmm(push, scores, precision)
            filled = torch.where(missing, push * fill, zero)
            push = torch.addmm(push, filled, precision)
            return against(scores.add_(filled), push).masked_fill_(missing, 0.0)

        def against(scores: Tensor, push: Tensor) -> Tensor:
            scores = scores.mul_(alone)
            return torch.addcmul(constant, push, push).addcmul_(scores, scores, value=-1.0)

        return lift


def _shrunk(covariance: Tensor, n: int) -> Tensor:
    """Shrink a covariance of n rows towards independence, by the oracle-approximating amount."""
    d = len(covariance)
    level, square = covariance.trace() / d, covariance.square().sum()
    spread = (n + 1 - 2 / d) * (square - d * level**2)
    oracle = float(((1 - 2 / d) * square + (d * level) ** 2) / spread) if spread > 0 else 1.0
    amount = min(1.0, max(LEAST_SHRINKAGE, oracle))
    eye = torch.eye(d, dtype=covariance.dtype, device=covariance.device)
    return (1 - amount) * covariance + amount * level.clamp_min(1e-6) * eye
