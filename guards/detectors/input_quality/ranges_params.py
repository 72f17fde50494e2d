"""The parameters of the ranges detector."""

from typing import Literal

from pydantic import Field, field_validator

from guards.detectors.base import Params

__all__ = ["LEAST_ROWS", "RangesParams"]

LEAST_ROWS = 100
"""A table of fewer rows says too little about combinations."""


class RangesParams(Params):
    """Parameters of the ranges detector. Its bounds are the declared bounds, or else those of the reference."""

    kind: Literal["ranges"] = "ranges"
    combinations: bool | None = Field(
        default=None,
        description=f"whether odd combinations of values are strange; default: in a table of {LEAST_ROWS} rows or more",
    )
    rules: tuple[str, ...] = Field(
        default=(), description="conditions across columns of a table, such as `end >= start`; a broken rule is a "
        "violation",
    )  # fmt: skip

    @field_validator("rules")
    @classmethod
    def _different(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        if len({" ".join(rule.split()) for rule in rules}) < len(rules):
            raise ValueError("a rule is listed twice")
        return rules
