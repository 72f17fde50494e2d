"""The parameters of the suitability monitor."""

from typing import Literal, Self

from pydantic import Field, model_validator

from guards.monitors.streams import StreamParams

__all__ = ["SuitabilityParams"]


class SuitabilityParams(StreamParams):
    """Parameters of the suitability monitor."""

    kind: Literal["suitability"] = "suitability"
    margin: float = Field(
        default=0.05, gt=0, lt=1, description="the loss of accuracy against the held-out rows that is no harm yet"
    )
    window: int = Field(
        default=2000, ge=50, le=1_000_000, description="answered rows of a window; each full window gets one verdict"
    )
    average_run_length: int = Field(
        default=100_000,
        ge=100,
        le=10**12,
        description="answered rows from one false verdict `harm` to the next, on average over references, at least",
    )
    projections: int = Field(
        default=0, ge=0, le=64, description="how many principal directions of the features are counted, too"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.average_run_length < 2 * self.window:
            raise ValueError(
                f"average_run_length is below two windows of {self.window} rows: raise it, or lower `window`"
            )
        return self
