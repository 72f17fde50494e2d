"""The base class of explainers, which attribute a model's output to the inputs of a row."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from guards.detectors import base as detector
from guards.explainers.explained_function import NotExplainableError, Subject
from guards.input.schema import InputSchema

__all__ = ["Attribution", "Explainer", "NotExplainableError", "seed_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The contribution of each input to an output, for each row.

    ``values`` has the input's shape; ``baseline_value`` and ``output_value`` (n,) are the explained logit (or value, or
    score) at the baseline and at the row. ``convergence_delta`` (n,) is the sum of the contributions less the change
    between the two; NaN for methods whose contributions are not meant to add up.
    """

    values: Tensor
    baseline_value: Tensor
    output_value: Tensor
    convergence_delta: Tensor


class Explainer(ABC):
    """Attributes a subject's number to the inputs, one row at a time, so that no explanation depends on other rows.

    With several baselines the contributions are averaged over the baselines. An explainer holds no state. While it
    explains, the model must not run in another thread: some methods hook into the model's layers.
    """

    Params: ClassVar[type[detector.Params]]
    complete: ClassVar[bool] = True
    """Whether contributions are meant to add up to the change from the baseline."""

    @classmethod
    def refusal(cls, schema: InputSchema) -> str | None:
        """Say why the method can explain no row of a schema; None if it can explain all rows, or some."""
        del schema
        return None

    def __init__(self, params: detector.Params, subject: Subject) -> None:
        self.params, self.subject = params, subject

    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        """Explain rows (n, ...) with regard to the output ``target`` (n,): a class index, or 0 for regression.

        Raises:
            NotExplainableError: the method does not apply to these rows.
        """
        rows = self.subject.prepare(x)
        target = target.to(rows.device)
        parts = [self._explain(rows[i : i + 1], target[i : i + 1]) for i in range(len(rows))]
        return Attribution(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _explain(self, row: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        baselines = self.subject.baselines.to(row.dtype)
        values = torch.stack([self.attribute(row, baseline[None], target).double() for baseline in baselines]).mean(0)
        at_row = self.subject.evaluate(row, target)
        at_baseline = self.subject.evaluate(baselines, target.expand(len(baselines))).double().mean(0, keepdim=True)
        delta = values.flatten(1).sum(1) - (at_row.double() - at_baseline)
        if not self.complete:
            delta = torch.full_like(delta, torch.nan)
        return values.float(), at_baseline.float(), at_row, delta.float()

    @abstractmethod
    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """Attribute one prepared row (1, ...) against one baseline (1, ...): contributions in the row's shape.

        Raises:
            NotExplainableError: the method does not apply to this row.
        """


def seed_of(row: Tensor) -> int:
    """Make a seed from a row's content, so that every call draws the same random numbers for the row."""
    return int.from_bytes(hashlib.sha256(row.detach().cpu().contiguous().numpy().tobytes()).digest()[:7], "big")
