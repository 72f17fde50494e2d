"""Exact Shapley values, for tables with few enough columns to run every coalition of columns."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from guards.detectors.base import Params
from guards.explainers.base import Explainer, NotExplainableError
from guards.explainers.coalitions import outputs, players_of, spread
from guards.input.schema import InputSchema

__all__ = ["Shapley", "ShapleyParams"]

MOST_COLUMNS = 10


class ShapleyParams(Params):
    """Exact Shapley values have nothing to set."""

    method: Literal["shapley"] = "shapley"


class Shapley(Explainer):
    """Each column's contribution, averaged over all orders in which columns could leave the baseline.

    All 2^d coalitions are run once, for up to ten columns. Absent columns have the baseline's value, so that the values
    describe the model and not the data (Sundararajan & Najmi 2020, "The many Shapley values for model explanation").
    """

    Params: ClassVar[type[Params]] = ShapleyParams

    @classmethod
    def refusal(cls, schema: InputSchema) -> str | None:
        """Say that there are too many columns; None if there are few enough."""
        d = math.prod(schema.shape)
        return f"shapley: it takes up to {MOST_COLUMNS} columns, not {d}: use kernel_shap" if d > MOST_COLUMNS else None

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """Average over all coalitions.

        Raises:
            NotExplainableError: there are more than ten columns.
        """
        d = row[0].numel()
        if (refusal := self.refusal(self.subject.schema)) is not None:
            raise NotExplainableError(refusal)
        codes = torch.arange(2**d)
        present = (codes[:, None] >> torch.arange(d)) & 1 == 1
        players = players_of(self.subject.schema, d)
        numbers = outputs(self.subject, row, baseline, target, players, present)
        weights = torch.tensor([1 / (d * math.comb(d - 1, size)) for size in range(d)], dtype=torch.float64)
        contributions = torch.empty(d, dtype=torch.float64)
        for column in range(d):
            without = codes[~present[:, column]]
            gain = numbers[without | (1 << column)] - numbers[without]
            contributions[column] = (weights[present[without].sum(1)] * gain).sum()
        return spread(contributions, players, row)
