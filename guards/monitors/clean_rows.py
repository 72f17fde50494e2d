"""Clean rows: rows that no guard flagged. A monitor may count clean rows alone."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from guards.types import Action, Result

__all__ = ["Include", "included"]

Include = Annotated[
    Literal["all", "clean"],
    Field(description="all: every row is judged; clean: flagged rows are left out, here and in the reference"),
]


def included(outcome: Result, include: Include) -> Tensor:
    """Say which rows (n,) a monitor counts. In shadow mode, too, a row that a guard flags is not clean."""
    action, flagged = outcome.verdict.action, outcome.verdict.flagged
    if include == "all":
        return action >= Action.ALLOW
    return (action == Action.ALLOW) & ~flagged.any(0)
