"""Detects foreign rows by the distance of their features to the nearest of some reference rows."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.detectors.class_gaussians import unit_length
from guards.types import Batch, Reference

__all__ = ["Knn", "KnnParams"]


class KnnParams(Params):
    """Parameters of the nearest neighbours."""

    kind: Literal["knn"] = "knn"
    rows: int = Field(default=1000, ge=1, le=10_000, description="how many reference rows, drawn at random, are kept")
    neighbours: int = Field(default=1, ge=1, description="the distance is measured to the nearest row of this rank")


class Knn(Detector):
    """Euclidean distance to the k-th nearest of the kept reference rows, for features of length 1.

    The kept rows are a random sample: a sample that covers the reference evenly (greedy k-centre) found fewer unseen
    classes. A bundle keeps the features of these rows; somebody who has the model may infer from features what a row
    was like.

    Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors".
    """

    Params: ClassVar[type[Params]] = KnnParams
    blind_spots: ClassVar[str] = (
        "It sees only what the last layer's features keep, and only their direction: a row whose features are "
        "merely too long passes. It knows a sample of the reference: a rare kind of row that the sample lacks looks "
        "foreign."
    )
    needs_output: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    kept: Tensor

    def __init__(self, params: KnnParams) -> None:
        super().__init__()
        self.params, self._neighbours = params, params.neighbours
        self.register_buffer("kept", torch.empty(0))

    def fit(self, reference: Reference) -> Self:
        """Draw the rows, and keep their features.

        Raises:
            ValueError: there are fewer reference rows than neighbours, or a feature is not finite.
        """
        output = reference.batch.output
        assert output is not None  # noqa: S101 - needs_output says so
        features = output.features
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[: self.params.rows]
        if len(order) < self._neighbours:
            raise ValueError(f"knn keeps {len(order)} reference rows, fewer than `neighbours`: lower `neighbours`")
        if not features.isfinite().all():
            raise ValueError("knn needs finite features; the model gives NaN or infinity on reference rows")
        self.kept = unit_length(features[order.to(features.device)]).T.contiguous()
        return self

    def score(self, batch: Batch) -> Tensor:
        """Score each row by the distance to its neighbour."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        similarity = unit_length(batch.output.features) @ self.kept
        if self._neighbours == 1:
            nearest = similarity.amax(1)
        else:
            nearest = similarity.topk(self._neighbours, dim=1).values[:, -1]
        return (2 - 2 * nearest).clamp_min(0).sqrt()
