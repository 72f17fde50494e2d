"""Detects rows for which the model is unsure, by the temperature-scaled softmax response."""

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.types import Batch, Reference

__all__ = ["Confidence", "ConfidenceParams"]


class ConfidenceParams(Params):
    """The confidence detector has nothing to set."""

    kind: Literal["confidence"] = "confidence"


class Confidence(Detector):
    """One minus the largest calibrated probability: the score detects wrong answers, and not foreign rows.

    Hendrycks & Gimpel 2017, "A baseline for detecting misclassified and out-of-distribution examples".
    """

    Params: ClassVar[type[Params]] = ConfidenceParams
    needs_output: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    blind_spots: ClassVar[str] = (
        "It knows how sure the model is, and nothing of the row: a foreign row passes if the model is sure of its "
        "answer. A wrong answer of which the model is sure passes, too."
    )
    temperature: Tensor

    def __init__(self, params: ConfidenceParams) -> None:
        super().__init__()
        self.params = params
        self.register_buffer("temperature", torch.ones(()))
        self._one = torch.tensor(1.0, dtype=torch.float32)  # torch would turn a number into a tensor in each call

    def fit(self, reference: Reference) -> Self:
        """Take the reference's temperature, which was fitted on separate rows.

        Raises:
            ValueError: the model is no classifier.
        """
        output = reference.batch.output
        if output is None or output.logits.shape[1] < 2:  # noqa: PLR2004 - a single value has no probability
            raise ValueError("confidence needs a classifier: a regression model has no probabilities")
        self.temperature.fill_(reference.temperature)
        return self

    def score(self, batch: Batch) -> Tensor:
        """Score each row by the probability that is not on the predicted label."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        return self._one - torch.softmax(batch.output.logits / self.temperature, dim=1).amax(1)
