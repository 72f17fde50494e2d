"""A density of rows whose numbers depend on each other closely: a Gaussian of the numbers' normal scores."""

import math
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["GaussianCopula"]

KNOTS = 256
"""A column's normal scores are kept at so many of its values, and interpolated between them."""
CATEGORIES = 16
"""So many of the most frequent categories of a column are known to the Gaussian."""
LEAST_SHRINKAGE = 0.01
"""Weight of independence: columns that determine each other would else make the smallest rounding surprising."""


class GaussianCopula(nn.Module):
    """The lift of each number: the log of its density over its density given the row's other values.

    A number's normal score is the normal quantile of its rank in the reference. The normal scores, with an indicator of
    each frequent category, have a shrunk Gaussian density. A missing number is replaced by its mean given the other
    values; its lift, and the lift of a category, is zero.

    Liu, Lafferty & Wasserman 2009, "The nonparanormal"; shrinkage of Chen et al. 2010, "Shrinkage algorithms for MMSE
    covariance estimation".
    """

    numeric: Tensor
    knots: Tensor
    scores: Tensor
    category_place: Tensor
    category_code: Tensor
    category_share: Tensor
    precision: Tensor
    own: Tensor
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("numeric", "category_place"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))
        for name in ("knots", "scores", "category_code", "category_share", "precision", "own", "variance"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, x: Tensor, categorical: Tensor) -> Self:
        """Learn the normal scores and the Gaussian from rows x (n, d), with at least one column that is numeric."""
        self.numeric = (~categorical).nonzero()[:, 0].to(x.device)
        fitted = [_knots(x[:, place]) for place in self.numeric.tolist()]
        pad = nn.utils.rnn.pad_sequence
        self.knots = pad([knots for knots, _ in fitted], batch_first=True, padding_value=math.inf)
        self.scores = pad([scores for _, scores in fitted], batch_first=True)
        places, codes, shares = [], [], []
        for place in categorical.nonzero()[:, 0].tolist():
            values = x[:, place]
            share = values[values >= 0].long().bincount(minlength=1) / len(x)
            frequent = share.topk(min(CATEGORIES, len(share)))
            places += [place] * len(frequent.indices)
            codes.append(frequent.indices.float())
            shares.append(frequent.values.clamp(1 / (len(x) + 2), 1 - 1 / (len(x) + 2)))
        self.category_place = torch.tensor(places, dtype=torch.int64, device=x.device)
        self.category_code = torch.cat([x.new_empty(0), *codes])
        self.category_share = torch.cat([x.new_empty(0), *shares])
        known = self._known(x)
        covariance = (known.T @ known / len(x)).double()
        covariance = _shrunk(covariance, len(x))
        precision = torch.linalg.inv(covariance)
        m = len(self.numeric)
        self.precision = precision[:, :m].float()
        self.own, self.variance = precision.diagonal()[:m].float(), covariance.diagonal()[:m].float()
        return self

    def normal(self, x: Tensor) -> Tensor:
        """Give the normal scores (n, m) of the m numeric columns of rows x (n, d), NaN if missing."""
        values = x[:, self.numeric].T.contiguous()
        above = torch.searchsorted(self.knots, values).clamp_max(self.knots.shape[1] - 1)
        below = (above - 1).clamp_min(0)
        low, high = self.knots.gather(1, below), self.knots.gather(1, above)
        first, second = self.scores.gather(1, below), self.scores.gather(1, above)
        # Beyond the last value of the reference the score is the last score; the padding after it is infinite.
        part = ((values - low) / (high - low)).nan_to_num(1.0).clamp(0.0, 1.0)
        inside = torch.where(high.isinf(), first, first + part * (second - first))
        return torch.where(values.isnan(), torch.nan, inside).T

    def forward(self, x: Tensor) -> Tensor:
        """Give the lift of each number (n, m) of rows x (n, d), in nats."""
        score, push = self._pushed(x)
        lift = push.square() / self.own - score.square() / self.variance - (self.own * self.variance).log()
        return torch.where(x[:, self.numeric].isnan(), 0.0, 0.5 * lift)

    def _pushed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the normal scores (n, m), and the product of rows and precision (n, m)."""
        known = self._known(x)
        push = known @ self.precision
        missing = x[:, self.numeric].isnan()
        m = missing.shape[1]
        filled = torch.where(missing, -push / self.own, 0.0)
        score = known[:, :m] + filled
        return score, push + filled @ self.precision[:m]

    def _known(self, x: Tensor) -> Tensor:
        """Give normal scores and standardised indicators (n, m + h), zero if missing."""
        share = self.category_share
        values = x[:, self.category_place]
        hot = ((values == self.category_code).float() - share) / (share * (1 - share)).sqrt()
        hot = torch.where(values.isnan(), 0.0, hot)
        return torch.cat([self.normal(x).nan_to_num(0.0), hot], dim=1)


def _knots(values: Tensor) -> tuple[Tensor, Tensor]:
    """Choose distinct values of a column in ascending order, and give their normal scores; ties get a middle rank."""
    distinct, counts = values[values.isfinite()].unique(return_counts=True)
    if not len(distinct):
        return values.new_zeros(1), values.new_zeros(1)
    middle = (counts.cumsum(0) - counts / 2) / counts.sum()
    if len(distinct) > KNOTS:
        levels = torch.linspace(float(middle[0]), float(middle[-1]), KNOTS, device=values.device)
        kept = torch.searchsorted(middle, levels).clamp_max(len(distinct) - 1).unique()
        distinct, middle = distinct[kept], middle[kept]
    return distinct, torch.special.ndtri(middle)


def _shrunk(covariance: Tensor, n: int) -> Tensor:
    """Shrink a covariance of n rows towards independence, by the oracle-approximating amount."""
    d = len(covariance)
    level, square = covariance.trace() / d, covariance.square().sum()
    spread = (n + 1 - 2 / d) * (square - d * level**2)
    oracle = float(((1 - 2 / d) * square + (d * level) ** 2) / spread) if spread > 0 else 1.0
    amount = min(1.0, max(LEAST_SHRINKAGE, oracle))
    return (1 - amount) * covariance + amount * level.clamp_min(1e-6) * torch.eye(
        d, dtype=covariance.dtype, device=covariance.device
    )
