"""The accuracy of a window whose rows differ from the held-out rows, if equal rows are right equally often in both."""

from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from guards.monitors.suitability.reference_moments import Floats, ReferenceMoments

__all__ = ["AccuracyModel"]

STEPS = np.geomspace(1e-7, 1.0, 29)
"""The tried ratios of the weights' variance to the variance of what they explain."""
NEARLY = 2.0
"""Ratios whose log evidence is at most so much below the best are within a 95 % interval."""


class AccuracyModel(nn.Module):
    """A row's expected accuracy is its confidence plus the weights of its bins: ``weights`` (bins,).

    The weights are a ridge regression of "right less confidence" on the bins of the reference's rows. The ridge is the
    weakest with nearly the best evidence (MacKay 1992, "Bayesian interpolation"): if nothing shows that the confidence
    is wrong for some rows, the estimate is the mean confidence. But for the ridge, the mean over a window equals the
    mean of the reference's outcomes weighted by the least-squares density ratio in the same bins (Kanamori, Hido &
    Sugiyama 2009). So it does what weighting by a classifier does (PAPE; Bialek et al. 2024, "Estimating model
    performance under covariate shift without labels"), needs none of the reference's rows, and is right for every
    window whose density ratio is linear in the bins (Kim et al. 2022, "Universal adaptability: target-independent
    inference that competes with propensity scoring").
    """

    weights: Tensor
    variances: Tensor

    def __init__(self, streams: int, bins: int) -> None:
        super().__init__()
        self.streams = streams
        self.register_buffer("weights", torch.zeros(bins, dtype=torch.float64))
        # The variances of: a weight before the reference was seen, what is left unexplained, the expected accuracy.
        self.register_buffer("variances", torch.zeros(3, dtype=torch.float64))

    def fit(self, moments: ReferenceMoments, confidence: Tensor, excess: Tensor, sums: tuple[Tensor, Tensor]) -> Self:
        """Learn from ``confidence`` (n,), and ``excess`` (n,), which is 1 or 0 for right or wrong less the confidence.

        ``sums`` are the sums of confidence and excess over the rows that have each kept bin: (k,) and (k,).
        """
        n = len(confidence)
        axes, spread = moments.axes, n * moments.variances
        along_confidence, along_excess = (
            axes.T @ (total - n * moments.mean * each.mean())
            for total, each in zip(sums, (confidence, excess), strict=True)
        )
        squares = (along_excess**2 / spread).cpu().numpy()
        prior, left = _most_evident(squares, float(excess.var(correction=0)) * n, spread.cpu().numpy(), n)
        along = along_excess * prior / (left + prior * spread)
        kept = axes @ along
        self.weights = torch.zeros(len(moments.kept), dtype=torch.float64).masked_scatter(moments.kept, kept)
        self.weights -= kept @ moments.mean / self.streams  # so that the reference's rows have 0 on average
        fitted = float(confidence.var(correction=0) + (2 * along @ along_confidence + along**2 @ spread) / n)
        self.variances = torch.tensor([prior, left, max(0.0, fitted)], dtype=torch.float64, device=confidence.device)
        return self

    def added(self, places: Tensor) -> Tensor:
        """Give what the bins of rows, at ``places`` (streams, n), add to the confidence: (n,)."""
        return self.weights[places].sum(0)

    def variances_of(self, moments: ReferenceMoments, shift: Floats) -> tuple[float, float]:
        """Give the variances of a window's expected accuracy and of the expected loss, over references of n rows.

        ``shift`` (k,) are the shares of the kept bins less the reference's shares. The reference's own mean counts
        among the accuracy's errors, and cancels in the loss, which is a difference of two means.
        """
        prior, left, expected = self.variances.tolist()
        n = int(moments.rows)
        spread = n * moments.variances.cpu().numpy()
        along = moments.axes.cpu().numpy().T @ shift
        learnt = (prior * spread / (left + prior * spread)) @ along**2
        unsure = prior * max(0.0, float(shift @ shift - learnt))
        return unsure + left / n, unsure + expected / n


def _most_evident(squares: npt.NDArray[np.float64], total: float, spread: Floats, n: int) -> tuple[float, float]:
    """Find the variances of the weights and of the rest under which the excess is most probable.

    Among ratios that are nearly as probable the largest is taken: it shrinks the weights least, and says least.
    ``squares`` (r,) are the squared projections of the excess on the axes, ``total`` is its sum of squares.
    """
    rest = max(0.0, total - float(squares.sum()))
    inflated = 1 + STEPS[:, None] * spread
    left = np.maximum((rest + (squares / inflated).sum(1)) / n, 1e-12)
    evidence = -0.5 * (n * np.log(left) + np.log(inflated).sum(1))
    chosen = int(np.flatnonzero(evidence >= evidence.max() - NEARLY)[-1])
    return float(STEPS[chosen] * left[chosen]), float(left[chosen])
