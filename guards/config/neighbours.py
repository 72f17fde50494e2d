"""The option ``neighbours`` of explanations: an answer names the reference rows whose features are nearest."""

from typing import Literal

from pydantic import Field

from guards.detectors.base import Params

__all__ = ["NEIGHBOURS", "NeighboursParams"]

NEIGHBOURS = "neighbours"
"""The option's name among ``explain.methods``. The option is no explainer: it attributes nothing to the inputs."""


class NeighboursParams(Params):
    """Parameters of the nearest reference rows. If ``explain.methods`` lists them, ``fit`` keeps reference features."""

    method: Literal["neighbours"] = "neighbours"
    count: int = Field(default=5, ge=1, le=50, description="how many reference rows an answer names")
    kept: int = Field(
        default=1000, ge=1, le=100_000, description="the most reference rows whose features a bundle keeps"
    )
    show_rows: bool = Field(
        default=False, description="true: answers hold the rows themselves; fit then needs store_reference_rows"
    )
