"""Mean and covariance of the reference's indicators: all that later windows are compared with; no row is kept."""

from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["ReferenceMoments"]

Floats = npt.NDArray[np.float64]
SMALLEST = 1e-4
"""Directions in which the indicators vary by less than this are left out: two bins may say the same."""


class ReferenceMoments(nn.Module):
    """Describes indicators (0 or 1) of n reference rows: ``mean`` (d,), principal ``axes`` (d, r), ``variances`` (r,).

    Indicators that few rows have are left out: ``kept`` (d,) marks the others.
    """

    kept: Tensor
    mean: Tensor
    axes: Tensor
    variances: Tensor
    rows: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("axes", torch.zeros((0, 0), dtype=torch.float64))
        self.register_buffer("variances", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))

    def fit(self, kept: Tensor, products: Tensor, rows: int) -> Self:
        """Learn from ``products`` (k, k), the sum of x x' over ``rows`` rows; ``kept`` (d,) marks k indicators."""
        mean = products.diagonal() / rows
        variances, axes = torch.linalg.eigh(products / rows - torch.outer(mean, mean))
        wide = variances > SMALLEST
        self.kept, self.mean, self.rows = kept, mean, torch.tensor(rows)
        self.axes, self.variances = axes[:, wide].contiguous(), variances[wide]
        return self

    @property
    def rank(self) -> int:
        """The number of directions."""
        return len(self.variances)

    def noise(self, rows: int) -> float:
        """Give the variance of each standardised direction of a window of ``rows`` rows without shift."""
        return 1 / rows + 1 / int(self.rows)

    def shift(self, counts: npt.NDArray[np.int64], rows: int) -> Floats:
        """Give the shares (k,) of the kept indicators in a window, less the reference's shares."""
        return np.asarray(counts[self.kept.cpu().numpy()] / rows - self.mean.cpu().numpy(), np.float64)

    def standardised(self, shift: Floats) -> Floats:
        """Give shifts (..., k) along the axes (..., r), in the reference's standard deviations.

        The inverse of an estimated covariance is too large by n / (n - r - 1), which is taken back.
        """
        n = int(self.rows)
        scale = np.sqrt(max(0, n - self.rank - 1) / max(1, n) / self.variances.cpu().numpy())
        return np.asarray((shift @ self.axes.cpu().numpy()) * scale, np.float64)

    def divergence(self, standardised: Floats, rows: int) -> float:
        """Estimate the chi-squared divergence of a window from the reference, as far as the indicators show it.

        Weights that make reference rows look like the window have this variance, so 1 / (1 + the divergence) is the
        effective share of reference rows (Kanamori, Hido & Sugiyama 2009, "A least-squares approach to direct
        importance estimation"). What sampling alone adds is subtracted.
        """
        return max(0.0, float(standardised @ standardised) - self.rank * self.noise(rows))
