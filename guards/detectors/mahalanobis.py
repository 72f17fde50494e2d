"""Is the row foreign? Distance of the features to the nearest class, in the classes' shared covariance."""

from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from guards.detector import Detector, Params
from guards.types import Batch, Reference

__all__ = ["Mahalanobis", "MahalanobisParams"]


class MahalanobisParams(Params):
    """Parameters of the Mahalanobis detector."""

    kind: Literal["mahalanobis"] = "mahalanobis"
    normalise: bool = Field(default=True, description="scale each feature vector to length 1 first")
    shrinkage: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        default="auto",
        description="how far the covariance is drawn to a multiple of the identity; auto: the oracle approximation",
    )


class Mahalanobis(Detector):
    """Squared Mahalanobis distance to the nearest class mean; one mean for regression.

    Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and adversarial attacks";
    with ``normalise`` the features of Mueller & Hein 2025, "Mahalanobis++"; shrinkage of Chen et al. 2010, "Shrinkage
    algorithms for MMSE covariance estimation".
    """

    Params: ClassVar[type[Params]] = MahalanobisParams
    needs_output: ClassVar[bool] = True
    centre: Tensor
    whitener: Tensor
    means: Tensor

    def __init__(self, params: MahalanobisParams) -> None:
        super().__init__()
        self.params = params
        for name in ("centre", "whitener", "means"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, reference: Reference) -> Self:
        """Estimate class means (labels, or the predicted ones where there are none) and the shared covariance.

        Raises:
            ValueError: there are fewer than two rows, or a feature is not finite.
        """
        output = reference.batch.output
        assert output is not None  # noqa: S101 - needs_output says so
        features = self._features(output.features).double()
        if len(features) < 2:  # noqa: PLR2004 - a covariance needs two
            raise ValueError("mahalanobis needs at least two reference rows")
        if not features.isfinite().all():
            raise ValueError("mahalanobis needs finite features; the model gives NaN or infinity on reference rows")
        classes = output.logits.shape[1]
        if classes == 1:
            labels = torch.zeros(len(features), dtype=torch.int64, device=features.device)
        else:
            labels = output.logits.argmax(1) if reference.y is None else reference.y.long()
        seen, labels = labels.unique(return_inverse=True)
        sums = features.new_zeros((len(seen), features.shape[1])).index_add_(0, labels, features)
        means = sums / labels.bincount(minlength=len(seen))[:, None]
        residual = features - means[labels]
        covariance = self._shrink(residual.T @ residual / len(features), len(features))
        whitener = torch.linalg.inv(torch.linalg.cholesky(covariance)).T
        centre = features.mean(0)
        self.centre, self.whitener = centre.float(), whitener.float()
        self.means = ((means - centre) @ whitener).float()
        return self

    def score(self, batch: Batch) -> Tensor:
        """Score each row by its smallest squared distance over the classes."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        white = (self._features(batch.output.features) - self.centre) @ self.whitener
        cross = white @ self.means.T
        squared = (white * white).sum(1, keepdim=True) - 2 * cross + (self.means * self.means).sum(1)
        return squared.amin(1)

    def _features(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(features, dim=1) if self.params.normalise else features

    def _shrink(self, covariance: Tensor, n: int) -> Tensor:
        d = len(covariance)
        trace, square = covariance.trace(), (covariance * covariance).sum()
        if self.params.shrinkage == "auto":
            spread = (n + 1 - 2 / d) * (square - trace**2 / d)
            amount = float(((1 - 2 / d) * square + trace**2) / spread) if spread > 0 else 1.0
            amount = min(1.0, max(0.0, amount))
        else:
            amount = self.params.shrinkage
        level = trace / d
        eye = torch.eye(d, dtype=covariance.dtype, device=covariance.device)
        # A floor far below the scale of the features keeps the factorisation alive where a feature never varies.
        floor = 1e-6 * level + 1e-12
        return (1 - amount) * covariance + (amount * level + floor) * eye
