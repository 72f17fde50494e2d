"""Detects foreign rows by their energy: rows for which all logits are low."""

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.types import Batch, Reference

__all__ = ["Energy", "EnergyParams"]

ALIKE = 1e-5
"""Energies of log probabilities are 0 but for rounding errors."""


class EnergyParams(Params):
    """The energy detector has nothing to set."""

    kind: Literal["energy"] = "energy"


class Energy(Detector):
    """Minus the log of the sum of the exponentials of a row's logits.

    Liu et al. 2020, "Energy-based out-of-distribution detection", at temperature 1.
    """

    Params: ClassVar[type[Params]] = EnergyParams
    blind_spots: ClassVar[str] = (
        "It knows only how large the logits are: a foreign row passes if some logit is large, and so does a wrong "
        "answer of which the model is sure. Training with label smoothing or heavy regularisation makes logits, and "
        "so the energy, say little."
    )
    needs_output: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True

    def __init__(self, params: EnergyParams) -> None:
        super().__init__()
        self.params = params

    def fit(self, reference: Reference) -> Self:
        """Check that the model's logits have an energy; nothing is learnt.

        Raises:
            ValueError: the model is no classifier, has one logit for two classes, or returns probabilities.
        """
        output = reference.batch.output
        assert output is not None  # noqa: S101 - needs_output says so
        logits = output.logits
        if logits.shape[1] < 2:  # noqa: PLR2004 - a single value is no logit
            raise ValueError("energy needs a classifier: a regression model has no logits")
        if logits.shape[1] == 2 and not logits[:, 0].any():  # noqa: PLR2004
            raise ValueError("energy needs a logit for each class, and the model has one for two classes: use gen")
        if bool((self.score(reference.batch).abs() < ALIKE).all()):
            raise ValueError("energy needs logits, and the model returns probabilities, whose energy is 0: use gen")
        return self

    def score(self, batch: Batch) -> Tensor:
        """Score each row by its energy."""
        assert batch.output is not None  # noqa: S101 - needs_output says so
        return -torch.logsumexp(batch.output.logits, dim=1)
