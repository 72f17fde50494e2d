"""Sorts rows into groups: by a column, by bands of a column, by the request's groups, or by several attributes."""

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from guards.input.column import Label
from guards.input.schema import InputSchema
from guards.types import Batch

__all__ = ["OTHER", "UNKNOWN", "Attribute", "Crossing", "Grouping", "Source"]

OTHER, UNKNOWN = "other", "unknown"
MOST_CELLS = 200


class Source(BaseModel):
    """Where an attribute comes from: an input column, bands of a numeric column, or the request's ``groups``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    column: str | None = Field(default=None, description="the input column that holds the attribute")
    edges: tuple[float, ...] | None = Field(
        default=None, description="inner edges of the bands of a numeric column, increasing"
    )
    request: str | None = Field(default=None, description="the key in a request's `groups` that holds the attribute")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.column is None) == (self.request is None):
            raise ValueError("give either `column` or `request`")
        if self.edges is not None:
            if self.column is None:
                raise ValueError("`edges` are for a column")
            if not self.edges or any(b <= a for a, b in pairwise(self.edges)):
                raise ValueError("`edges` must be increasing numbers")
        return self


class Grouping(Protocol):
    """Finds each row's group: ``levels`` are the declared levels, then ``other`` and ``unknown``."""

    name: str
    levels: tuple[str, ...]

    def group_of(self, batch: Batch) -> Tensor:
        """Give each row's level code (n,) int64."""


class Attribute:
    """One attribute; ``name`` is the monitor's name, ``key`` is the attribute's key in a batch's groups."""

    def __init__(self, name: str, key: str, source: Source, levels: tuple[Label, ...], schema: InputSchema) -> None:
        """Match the levels with the column's categories, if the source is a column.

        Raises:
            ValueError: the schema lacks the column, or the column lacks a level.
        """
        self.name, self.key, self.source = name, key, source
        declared = _bands(source.edges) or levels
        self.column = -1
        categories: tuple[str, ...] = ()
        if source.column is not None:
            self.column, categories = _find(source, levels, schema)
        # A declared level named other or unknown is the built-in level of that name: no series may exist twice.
        self.levels = (*(x for x in declared or categories if x not in (OTHER, UNKNOWN)), OTHER, UNKNOWN)
        other = self.levels.index(OTHER)
        codes = [self.levels.index(level) if level in self.levels else other for level in categories]
        self.codes = torch.tensor([*codes, other])  # index -1, an unseen category, finds the last code
        self.edges = torch.tensor(source.edges or (), dtype=torch.float32)

    def encode(self, values: Sequence[str | None]) -> Tensor:
        """Turn a request's values into level codes (n,)."""
        known = {level: code for code, level in enumerate(self.levels)}
        other, unknown = len(self.levels) - 2, len(self.levels) - 1
        return torch.tensor([unknown if value is None else known.get(value, other) for value in values])

    def group_of(self, batch: Batch) -> Tensor:
        """Give each row's level code (n,) int64."""
        unknown = len(self.levels) - 1
        if self.source.request is not None:
            absent = torch.full((len(batch),), unknown, device=batch.x.device)
            return batch.groups.get(self.key, absent)
        values = batch.x[:, self.column]
        if len(self.edges):
            code = torch.bucketize(values.contiguous(), self.edges.to(values.device), right=True)
        else:
            code = self.codes.to(values.device)[values.nan_to_num(-1).long()]  # -1, unseen, finds the last: other
        return torch.where(values.isnan(), unknown, code)


class Crossing:
    """The declared levels of several attributes, crossed.

    A row that is ``unknown`` in any attribute is ``unknown``; any other row that is ``other`` in one is ``other``.
    """

    def __init__(self, name: str, parts: Sequence[Grouping]) -> None:
        """Cross the parts' levels.

        Raises:
            ValueError: there are more than :data:`MOST_CELLS` groups.
        """
        self.name, self.parts = name, tuple(parts)
        declared = [part.levels[:-2] for part in parts]
        cells = math.prod(map(len, declared))
        if cells > MOST_CELLS:
            sizes = " x ".join(str(len(levels)) for levels in declared)
            raise ValueError(
                f"intersect: {sizes} levels make {cells} groups, but only {MOST_CELLS} are allowed: "
                "declare fewer levels"
            )
        self.levels = (*(" & ".join(cell) for cell in product(*declared)), OTHER, UNKNOWN)

    def group_of(self, batch: Batch) -> Tensor:
        """Give each row's level code (n,) int64."""
        code = torch.zeros(len(batch), dtype=torch.int64, device=batch.x.device)
        other, unknown = torch.zeros_like(code, dtype=torch.bool), torch.zeros_like(code, dtype=torch.bool)
        for part in self.parts:
            level, size = part.group_of(batch), len(part.levels) - 2
            other, unknown = other | (level == size), unknown | (level == size + 1)
            code = code * size + level
        code = torch.where(other, len(self.levels) - 2, code)
        return torch.where(unknown, len(self.levels) - 1, code)


def _find(source: Source, levels: tuple[str, ...], schema: InputSchema) -> tuple[int, tuple[str, ...]]:
    name, names = source.column, schema.names
    if name not in names:
        raise ValueError(f"source.column: no column {name!r}; there are {list(names)}")
    column = schema.columns[names.index(name)]
    if (source.edges is None) != (column.kind == "categorical"):
        raise ValueError(f"source: {name!r} is {column.kind}; a numeric column has `edges`, a categorical one none")
    absent = sorted(set(levels) - set(column.categories or ()))
    if absent:
        raise ValueError(f"levels: {absent} are no categories of {name!r}: {list(column.categories or ())}")
    return names.index(name), column.categories or ()


def _bands(edges: tuple[float, ...] | None) -> tuple[str, ...]:
    """Name the bands between edges.

    >>> _bands((25, 45))
    ('<25', '25-45', '>=45')
    """
    if not edges:
        return ()
    inner = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    return (f"<{edges[0]:g}", *inner, f">={edges[-1]:g}")
