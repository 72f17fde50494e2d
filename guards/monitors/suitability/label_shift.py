"""The accuracy of a window in which the classes have other shares, and rows of one class look as before."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from guards.monitors.suitability.reference_moments import Floats, ReferenceMoments

__all__ = ["LabelShift", "ShiftedLabels"]

FEWEST = 5
"""Classes with fewer reference rows are left out."""
PLAUSIBLE = 5.0
"""Other shares explain a window if what they leave unexplained is at most so many standard deviations too large."""
EVIDENT = 7.0
"""With two classes this is a change of the shares by 3.3 standard errors."""


@dataclass(frozen=True, slots=True)
class ShiftedLabels:
    """The ``change`` of accuracy under other class shares, with its variance.

    ``plausible`` says whether other class shares explain the window's indicators; ``evident`` also says that the shares
    have changed by more than sampling would.
    """

    change: float
    variance: float
    plausible: bool
    evident: bool


class LabelShift(nn.Module):
    """Fits class shares to a window's indicators by least squares in the reference's covariance.

    ``means`` (classes, r) are the standardised mean indicators of each class, ``shares`` (classes,) the reference's
    class shares, ``recalls`` (classes,) how often the model is right on rows of each class. Black-box shift estimation
    (Lipton, Wang & Smola 2018, "Detecting and correcting for label shift with black box predictors") uses the predicted
    class alone; all indicators together are more precise, and can show that the classes' shares are not what changed.
    """

    means: Tensor
    shares: Tensor
    recalls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros((0, 0), dtype=torch.float64))
        self.register_buffer("shares", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("recalls", torch.zeros(0, dtype=torch.float64))

    def fit(self, moments: ReferenceMoments, rows: Tensor, right: Tensor, sums: Tensor) -> Self:
        """Learn from each class's numbers of ``rows`` and ``right`` answers (classes,), and the sums of indicators.

        ``sums`` (k, classes) counts the rows of each class that have each kept indicator.
        """
        seen = rows >= FEWEST
        n = rows[seen].double()
        self.shares, self.recalls = n / n.sum(), right[seen].double() / n
        shift = (sums[:, seen].double() / n - moments.mean[:, None]).T.cpu().numpy()
        means = torch.from_numpy(moments.standardised(shift)).to(n.device)
        self.means = means - self.shares @ means  # other means than 0 come from the classes that are left out
        return self

    def explain(self, moments: ReferenceMoments, standardised: Floats, rows: int) -> ShiftedLabels:
        """Find the class shares that explain a window's ``standardised`` shift (r,) best."""
        means, shares, recalls = (each.cpu().numpy() for each in (self.means, self.shares, self.recalls))
        freedom, noise = len(shares) - 1, moments.noise(rows)
        inverse = np.linalg.pinv(means @ means.T, rcond=1e-8, hermitian=True)
        change = inverse @ (means @ standardised)
        left = standardised - change @ means
        among = max(1, moments.rank - freedom)
        excess = (float(left @ left) / noise - among) / np.sqrt(2 * among)
        explained = (float(standardised @ standardised - left @ left) / noise - freedom) / np.sqrt(2 * max(1, freedom))
        # A multiple of the shares explains nothing; so much of it is taken away that the changes add up to 0.
        gain = recalls - shares @ recalls
        variance = noise * float(gain @ inverse @ gain)
        plausible = bool(excess < PLAUSIBLE)
        return ShiftedLabels(float(gain @ change), variance, plausible, plausible and bool(explained > EVIDENT))
