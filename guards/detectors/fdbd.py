"""Detects foreign rows by the distance of their features to the decision boundaries of the last linear layer."""

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.types import Batch, Reference

__all__ = ["Fdbd", "FdbdParams"]

TOLERANCE = 1e-3
"""How far a model's differences of logits may be from the last layer's, relative to the largest."""
NO_LENGTH = 1e-12


class FdbdParams(Params):
    """The detector has nothing to set."""

    kind: Literal["fdbd"] = "fdbd"


class Fdbd(Detector):
    """Minus the mean distance to the boundaries with the other classes, relative to the distance to the mean feature.

    The distance of features z to the boundary between the predicted class p and a class c is
    |logit_p - logit_c| / |w_p - w_c|, with the weights w of the last linear layer.

    Liu & Qin 2024, "Fast decision boundary based out-of-distribution detector".
    """

    Params: ClassVar[type[Params]] = FdbdParams
    blind_spots: ClassVar[str] = (
        "It sees only the last layer's features, relative to the boundaries between known classes: a foreign row "
        "far from every boundary passes. Noise that hides from the last layer passes, too."
    )
    needs_output: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    centre: Tensor
    inverse_gap: Tensor

    def __init__(self, params: FdbdParams) -> None:
        super().__init__()
        self.params = params
        for name in ("centre", "inverse_gap"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, reference: Reference) -> Self:
        """Learn the mean feature, and the distances between the weights of the last linear layer.

        Raises:
            ValueError: the model is no classifier, or its logits are not made by a last linear layer from its features.
        """
        output, head = reference.batch.output, reference.head
        assert output is not None  # noqa: S101 - needs_output says so
        logits, features = output.logits, output.features
        if logits.shape[1] < 2:  # noqa: PLR2004
            raise ValueError("fdbd needs a classifier: a regression model has no decision boundary")
        if head is None or head.in_features != features.shape[1] or head.out_features not in {1, logits.shape[1]}:
            raise ValueError("fdbd needs the features that the last linear layer gets: leave `model.features` out")
        weight = head.weight.to(features.device)
        if len(weight) == 1:  # one logit for two classes
            weight = torch.cat([torch.zeros_like(weight), weight])
        bias = 0 if head.bias is None else head.bias.to(features.device)
        made = features @ head.weight.to(features.device).T + bias
        made = torch.cat([torch.zeros_like(made), made], dim=1) if made.shape[1] == 1 else made
        gaps = logits - logits[:, :1]
        if bool(((made - made[:, :1] - gaps).abs() > TOLERANCE * gaps.abs().max()).any()):
            raise ValueError("fdbd needs logits that are the outputs of the last linear layer")
        between = torch.linalg.vector_norm(weight[:, None] - weight[None], dim=2)
        self.inverse_gap = 1 / between.clamp_min(NO_LENGTH).fill_diagonal_(1.0)
        self.centre = features.mean(0)
        return self

    def score(self, batch: Batch) -> Tensor:
        """Score each row by its distance to the decision boundaries."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        logits, features = batch.output.logits, batch.output.features
        largest, predicted = logits.max(1)
        distance = ((largest[:, None] - logits) * self.inverse_gap[predicted]).sum(1) / (logits.shape[1] - 1)
        length = torch.linalg.vector_norm(features - self.centre, dim=1).clamp_min(NO_LENGTH)
        return torch.div(-distance, length)
