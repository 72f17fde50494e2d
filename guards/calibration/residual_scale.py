"""The scale of a regression's residuals: how large an error to expect of each row."""

from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["ResidualScale"]

PENALTIES = tuple(10.0**exponent for exponent in range(-3, 6))
FLOOR = 0.3
"""The smallest scale, relative to the mean absolute residual: no interval is less than 0.3 times a typical interval."""
NEARLY_CONSTANT = 1e-9


class ResidualScale(nn.Module):
    """A ridge regression of |residual| on the model's features: sigma(x) for normalised intervals.

    The scale lies between :data:`FLOOR` times the mean residual and the largest scale of the rows that it was fitted
    on, so that no row gets an interval of nearly no width or of absurd width. Papadopoulos, Proedrou, Vovk & Gammerman
    2002, "Inductive confidence machines for regression"; Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018,
    "Distribution-free predictive inference for regression", section 5.2.
    """

    centre: Tensor
    weight: Tensor
    bias: Tensor
    bounds: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, size in (("centre", 1), ("weight", 1), ("bias", 1), ("bounds", 2)):
            self.register_buffer(name, torch.zeros(size))

    def fit(self, features: Tensor, residuals: Tensor) -> Self:
        """Learn from ``features`` (n, d) and ``residuals`` (n,) of rows that the model was not trained on.

        The penalty is the one with the least squared error when each row is left out in turn.
        """
        x, target = features.detach().double(), residuals.detach().double().abs()
        level = target.mean()
        if level == 0:  # the model made no error on these rows: every row has the same scale
            target = target + 1
            level = target.mean()
        centre, spread = x.mean(0), x.std(0, correction=0)
        spread = torch.where(spread > NEARLY_CONSTANT * centre.abs().clamp(min=1.0), spread, torch.inf)
        u, s, v = torch.linalg.svd((x - centre) / spread, full_matrices=False)
        along = u.T @ (target - level)

        def left_out_error(penalty: float) -> float:
            shrunk = s**2 / (s**2 + penalty)
            missed = target - level - u @ (shrunk * along)
            leverage = (u**2 @ shrunk + 1 / len(target)).clamp(max=1 - 1e-6)
            return float(((missed / (1 - leverage)) ** 2).mean())

        best = min(PENALTIES, key=left_out_error)
        self.centre, self.bias = centre.float(), level.float()[None]
        self.weight = (v.T @ (s / (s**2 + best) * along) / spread).float()
        floor = FLOOR * self.bias[0]
        self.bounds = torch.stack([floor, self._linear(x.float()).max().clamp(min=floor)])
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Give sigma (n,), positive, of rows with ``features`` (n, d)."""
        return self._linear(features).clamp(*self.bounds)

    def _linear(self, features: Tensor) -> Tensor:
        return ((features - self.centre) * self.weight).sum(1) + self.bias
