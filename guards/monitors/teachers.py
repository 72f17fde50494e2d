"""Whose rows a monitor counts: the keys that every monitor has in a config. Only a server with keys knows whose."""

from typing import Annotated

from pydantic import Field

from guards.detectors.base import Params

__all__ = ["TeacherParams"]


class TeacherParams(Params):
    """Which principals a monitor trusts, and how much of its rows one principal may supply."""

    principals: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] | None = Field(
        default=None,
        min_length=1,
        description="the principals whose rows this monitor counts; default: the rows of all principals",
    )
    principal_share: float | None = Field(
        default=None,
        ge=0.001,
        lt=1,
        description="the most that one principal may supply of any 1000 rows in a row that this monitor counts in one "
        "server; default: no bound",
    )
