"""The scale of a regression's residuals: how large an error to expect of each row."""

from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["ResidualScale"]

PENALTIES = tuple(10.0**exponent for exponent in range(-3, 6))
LEAST = 1e-12
"""The smallest residual, relative to the largest: a logarithm needs a positive number."""
INNER = 0.05, 0.95
"""The scale of every row lies between these quantiles of the scale of the rows that it was fitted on."""


class ResidualScale(nn.Module):
    """A ridge regression of log |residual| on the model's features: sigma(x) for normalised intervals.

    Scales beyond :data:`INNER` quantiles are cut off, so that no row gets an interval of nearly no width or of absurd
    width. Papadopoulos, Proedrou, Vovk & Gammerman 2002, "Inductive confidence
    machines for regression"; Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018, "Distribution-free predictive inference
    for regression".
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
        """Learn from ``features`` (n, d) and ``residuals`` (n,) of rows that no model was trained on.

        The penalty is the one with the least squared error when each row is left out in turn.
        """
        x, size = features.detach().double(), residuals.detach().double().abs()
        largest = size.max()
        target = (size.clamp(min=LEAST * float(largest)) if largest > 0 else torch.ones_like(size)).log()
        centre, spread = x.mean(0), x.std(0, correction=0)
        spread = torch.where(spread > LEAST * centre.abs().clamp(min=1.0), spread, torch.inf)  # a constant says nothing
        level = target.mean()
        u, s, v = torch.linalg.svd((x - centre) / spread, full_matrices=False)
        along = u.T @ (target - level)

        def left_out_error(penalty: float) -> float:
            shrunk = s**2 / (s**2 + penalty)
            missed = target - level - u @ (shrunk * along)
            leverage = (u**2 @ shrunk + 1 / len(target)).clamp(max=1 - 1e-6)
            return float(((missed / (1 - leverage)) ** 2).mean())

        best = min(PENALTIES, key=left_out_error)
        weight = (v.T @ (s / (s**2 + best) * along)) / spread
        self.centre, self.weight, self.bias = centre.float(), weight.float(), level.float()[None]
        self.bounds = torch.quantile(self._logarithm(x.float()), torch.tensor(INNER, device=x.device))
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Give sigma (n,), positive, of rows with ``features`` (n, d)."""
        return self._logarithm(features).clamp(*self.bounds).exp()

    def _logarithm(self, features: Tensor) -> Tensor:
        return ((features - self.centre) * self.weight).sum(1) + self.bias
