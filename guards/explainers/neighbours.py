"""Nearest reference rows: what the model has seen that looks, to it, most like this row."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from guards.detector import Params
from guards.explainer import Explainer, NotExplainableError

__all__ = ["Neighbours", "NeighboursParams"]


class NeighboursParams(Params):
    """Parameters of the nearest reference rows; named among ``explain.methods`` they let ``fit`` keep features."""

    method: Literal["neighbours"] = "neighbours"
    count: int = Field(default=5, ge=1, le=50, description="rows to name")
    kept: int = Field(default=1000, ge=1, le=100_000, description="most reference rows whose features a bundle keeps")
    show_rows: bool = Field(
        default=False, description="answers hold the rows themselves; needs store_reference_rows at fit"
    )


class Neighbours(Explainer):
    """Names rows and attributes nothing: the answer's ``neighbours`` are by Euclidean distance of the features."""

    Params: ClassVar[type[Params]] = NeighboursParams
    complete: ClassVar[bool] = False
    params: NeighboursParams

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:  # noqa: ARG002
        """Refuse: there are no contributions.

        Raises:
            NotExplainableError: always.
        """
        raise NotExplainableError("neighbours: it names rows, and attributes nothing to inputs")
