"""Repeats experiments in float64: a deviation that stays in float64 is not rounding."""

import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from guards.examination.experiments import Answers, Deviation, Experiment, answers, deviation
from guards.input.imputation import Imputation
from guards.model.torch_model import TorchModel

__all__ = ["Float64Copy"]

SHARE = 0.1
"""If less than this share of a float32 deviation is left in float64, the deviation is rounding."""
SMALL = 1e-3
"""The deviation that is allowed if a module cannot run in float64; faults of models are larger."""


@dataclass(frozen=True, slots=True, eq=False)
class Float64Copy:
    """A copy of a model's parts in float64, and the sample's answers; both are None if the model has no float64 run."""

    model: TorchModel
    parts: tuple[nn.Module, Imputation | None] | None
    base: Answers | None
    classification: bool

    @classmethod
    def of(cls, model: TorchModel, sample: Tensor, *, classification: bool) -> Self:
        """Copy the model, and run the sample (n, ...)."""
        try:
            fill = model.imputation
            parts = copy.deepcopy(model.net).double(), None if fill is None else copy.deepcopy(fill).double()
            base = cls(model, parts, None, classification).run(sample)
        except Exception:  # noqa: BLE001 - a module of the user's may not be copied, or mix types
            return cls(model, None, None, classification)
        return cls(model, parts, base, classification)

    def explains(self, experiment: Experiment, differs: Deviation) -> bool:
        """Tell whether a deviation vanishes in float64."""
        if self.base is None:
            return differs.size <= SMALL
        try:
            found = self.run(experiment.rows)
        except Exception:  # noqa: BLE001 - as above
            return differs.size <= SMALL
        left = deviation(self.base, found, experiment.index, classification=self.classification)
        return left is None or left.size <= SHARE * differs.size

    def run(self, rows: Tensor) -> Answers:
        """Run rows (n, ...) in float64."""
        assert self.parts is not None  # noqa: S101 - only called with them
        model = self.model
        own = model.net, model.imputation
        model.net, model.imputation = self.parts
        try:
            with torch.inference_mode():
                return answers(model, rows.double(), classification=self.classification)
        finally:
            model.net, model.imputation = own
