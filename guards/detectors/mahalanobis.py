"""Detects foreign rows, by the distance of their features to the nearest class in the classes' shared covariance."""

from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.detectors.class_gaussians import fit_gaussians, reference_classes, unit_length
from guards.types import Batch, Reference

__all__ = ["Mahalanobis", "MahalanobisParams"]


class MahalanobisParams(Params):
    """Parameters of the Mahalanobis detector."""

    kind: Literal["mahalanobis"] = "mahalanobis"
    normalise: bool | Literal["both"] = Field(
        default="both",
        description="true: each feature vector is scaled to length 1 first; both: the larger of the two scores",
    )
    shrinkage: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        default="auto",
        description="weight of a multiple of the identity in the covariance; auto: oracle-approximating shrinkage",
    )


class Mahalanobis(Detector):
    """Log of one plus the squared Mahalanobis distance to the nearest class mean; one mean for regression.

    By default the score is the larger of two such scores, each standardised on the reference. The first score uses the
    features as they are: a wrong unit makes them longer. The second score uses the features scaled to length 1: a
    foreign row has another direction.

    Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and adversarial attacks";
    with ``normalise`` the features of Mueller & Hein 2025, "Mahalanobis++"; shrinkage of Chen et al. 2010, "Shrinkage
    algorithms for MMSE covariance estimation".
    """

    Params: ClassVar[type[Params]] = MahalanobisParams
    needs_output: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    blind_spots: ClassVar[str] = (
        "It sees only what the model's features keep: a change that the model ignores passes, and so does a foreign "
        "row that the model maps onto a known class. One mean and the shared covariance describe a class badly if "
        "the class is more than one cloud of points."
    )
    centre: Tensor
    projection: Tensor
    offset: Tensor
    level: Tensor
    spread: Tensor

    def __init__(self, params: MahalanobisParams) -> None:
        super().__init__()
        self.params, self._normalise = params, params.normalise
        for name in ("centre", "projection", "offset", "level", "spread"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, reference: Reference) -> Self:
        """Estimate the means of the classes (of the predicted classes without labels), and the shared covariance.

        Raises:
            ValueError: there are fewer than two rows, or a feature is not finite.
        """
        output = reference.batch.output
        assert output is not None  # noqa: S101 - needs_output says so
        features = output.features.double()
        if len(features) < 2:  # noqa: PLR2004 - a covariance needs two
            raise ValueError("mahalanobis needs at least two reference rows")
        if not features.isfinite().all():
            raise ValueError("mahalanobis needs finite features; the model gives NaN or infinity on reference rows")
        classes = reference_classes(reference, features)
        fitted = [fit_gaussians(view, classes, self.params.shrinkage) for view in self._views(features)]
        self.centre, self.projection, self.offset = (torch.stack(part).float() for part in zip(*fitted, strict=True))
        distance = self._distance(output.features)
        self.level = distance.mean(1, keepdim=True)
        # Never near zero: if all reference rows are alike in one view, its rounding errors would drown the other view.
        self.spread = distance.std(1, keepdim=True).clamp_min(0.01)
        return self

    def score(self, batch: Batch) -> Tensor:
        """Score each row by its distance to the nearest class, in the view in which the row is stranger."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        features = batch.output.features
        if torch.is_inference_mode_enabled():
            return self._score_in_place(features)
        return ((self._distance(features) - self.level) / self.spread).amax(0)

    def _score_in_place(self, features: Tensor) -> Tensor:
        """Compute the same bits without a gradient: in place, so that a few rows take less time."""
        d, projection = features.shape[1], self.projection
        projected = torch.baddbmm(self.offset, self._views(features).sub_(self.centre), projection)
        white = projected.narrow(2, 0, d)
        nearest = projected.narrow(2, d, projection.shape[2] - d).amin(2)
        squared: Tensor = torch.linalg.vecdot(white, white)
        return squared.add_(nearest).clamp_min_(0).log1p_().sub_(self.level).div_(self.spread).amax(0)

    def _distance(self, features: Tensor) -> Tensor:
        """Compute the log of one plus the squared distance to the nearest class: (views, n)."""
        projected = torch.baddbmm(self.offset, self._views(features) - self.centre, self.projection)
        white, classes = projected[..., : features.shape[1]], projected[..., features.shape[1] :]
        squared: Tensor = torch.linalg.vecdot(white, white) + classes.amin(2)
        return squared.clamp_min(0).log1p()

    def _views(self, features: Tensor) -> Tensor:
        """Give the features of each view, in newly allocated memory: (views, n, d)."""
        if self._normalise is False:
            return features[None].clone()
        scaled = unit_length(features)
        if self._normalise == "both":
            return torch.stack([features, scaled])
        return scaled[None]
