"""Detects rows for which the model is unsure, by the generalised entropy of all probabilities."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.types import Batch, Reference

__all__ = ["Gen", "GenParams"]

NEARLY_NONE = 1e-7
"""Probabilities are kept this far from 0 and 1, as in pytorch-ood."""


class GenParams(Params):
    """Parameters of the generalised entropy."""

    kind: Literal["gen"] = "gen"
    gamma: float = Field(default=0.1, gt=0, lt=1, description="exponent; small values weigh improbable classes more")
    top: int = Field(default=100, ge=2, description="how many of the largest probabilities count")


class Gen(Detector):
    """Generalised entropy: the sum of (p (1 - p))^gamma over the largest probabilities.

    Liu et al. 2023, "GEN: Pushing the limits of softmax-based out-of-distribution detection".
    """

    Params: ClassVar[type[Params]] = GenParams
    blind_spots: ClassVar[str] = (
        "It knows how the probability is spread over the labels, and nothing of the row: a foreign row passes if "
        "the model is sure of its answer. A wrong answer of which the model is sure passes, too."
    )
    needs_output: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True

    def __init__(self, params: GenParams) -> None:
        super().__init__()
        self.params, self._gamma, self._top = params, params.gamma, params.top

    def fit(self, reference: Reference) -> Self:
        """Check that the model has probabilities; nothing is learnt.

        Raises:
            ValueError: the model is no classifier.
        """
        output = reference.batch.output
        if output is None or output.logits.shape[1] < 2:  # noqa: PLR2004 - a single value has no probability
            raise ValueError("gen needs a classifier: a regression model has no probabilities")
        return self

    def score(self, batch: Batch) -> Tensor:
        """Score each row by its generalised entropy."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        p = torch.softmax(batch.output.logits, dim=1)
        if p.shape[1] > self._top:
            p = p.topk(self._top, dim=1).values
        p = p.clamp(NEARLY_NONE, 1 - NEARLY_NONE)
        return (p * (1 - p)).pow(self._gamma).sum(1)
