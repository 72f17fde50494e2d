"""The schema of a row: its columns, or its shape. Only this module turns values into the model's numbers.

A process without torch can import this module: only the two functions that make tensors import torch.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from guards.input.cell_faults import LARGEST, NOT_FINITE, NUMBERS, Fault, as_floats, first_fault, first_in_rows
from guards.input.column import Column, ColumnSpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Floats", "InputSchema", "InputSpec"]

Floats = npt.NDArray[np.float32]


class InputSpec(BaseModel):
    """The ``input`` section of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["image", "tabular", "tensor"] = Field(description="what a row is")
    shape: tuple[int, ...] | None = Field(
        default=None, description="for images and tensors: the shape of one row, channels first"
    )
    columns: tuple[ColumnSpec, ...] = Field(
        default=(),
        description="for a table: declarations of columns; if all columns are listed, the model gets them in this "
        "order; everything else is inferred from the reference",
    )
    rest: Literal["infer", "drop"] | None = Field(
        default=None,
        description="for a table: what becomes of columns that `columns` does not list; default: they are inputs, "
        "unless the model takes only the listed columns",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "tabular":
            if self.shape is not None:
                raise ValueError("a tabular input has columns, not a shape: leave `shape` out")
            names = [column.name for column in self.columns]
            if len(set(names)) < len(names):
                raise ValueError("a column is listed twice")
            if self.rest == "drop" and not self.columns:
                raise ValueError("`rest: drop` needs `columns`: list the model's inputs")
        else:
            if self.rest is not None:
                raise ValueError(f"input of kind {self.kind} has no columns: leave `rest` out")
            if self.columns:
                raise ValueError(f"input of kind {self.kind} has a shape, not columns: leave `columns` out")
            if not self.shape or any(size < 1 for size in self.shape):
                raise ValueError(f"input of kind {self.kind} needs `shape`: the positive sizes of one row")
            if self.kind == "image" and len(self.shape) != 3:  # noqa: PLR2004
                raise ValueError("an image's shape is [channels, height, width]")
        return self


class InputSchema(BaseModel):
    """The fitted schema of a row: its kind, shape and columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["image", "tabular", "tensor"] = Field(description="what a row is")
    shape: tuple[int, ...]
    columns: tuple[Column, ...] = ()
    spread: tuple[float, float] | None = None
    """Image, tensor: the 5 % and the 95 % quantile of the reference's values; None if it was not measured."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the model's order."""
        return tuple(column.name for column in self.columns)

    @property
    def categorical(self) -> "Tensor":
        """Which columns are categorical: (d,) bool."""
        import torch  # noqa: PLC0415 - a front has no torch

        return torch.tensor([column.kind == "categorical" for column in self.columns], dtype=torch.bool)

    def encode(self, table: Mapping[str, Sequence[object] | npt.NDArray[np.generic]]) -> tuple[Floats, list[Fault]]:
        """Turn columns by name into rows (n, d); every column must be present, and all must have the same length."""
        rows = len(table[self.columns[0].name])
        x = np.empty((rows, len(self.columns)), dtype=np.float32)
        faults: list[Fault] = []
        for index, column in enumerate(self.columns):
            values, found = column.encode(table[column.name])
            faults += found
            x[:, index] = np.clip(values, -LARGEST, LARGEST)
        return x, faults

    def stack(self, rows: Sequence[object]) -> tuple[Floats, list[Fault]]:
        """Turn rows of nested lists into one array (n, *shape); numbers only, no missing values."""
        level: list[object] = list(rows)
        for size in self.shape:
            if set(map(type, level)) != {list} or set(map(len, level)) != {size}:  # type: ignore[arg-type]
                return self._faulty(rows)
            level = list(chain.from_iterable(level))  # type: ignore[arg-type]
        if not set(map(type, level)) <= NUMBERS:
            return self._faulty(rows)
        numbers = as_floats(level)
        if not (np.abs(numbers) <= LARGEST).all():
            return self._faulty(rows)
        return numbers.astype(np.float32).reshape(len(rows), *self.shape), []

    def take(self, x: npt.NDArray[np.number[Any]]) -> tuple[Floats, list[Fault]]:
        """Check rows (n, *shape) that are numbers already; float32 rows are copied only if a value must change.

        In a table NaN is a missing value, an index stands for its category, and any other index is an unseen category.
        """
        if self.kind != "tabular" and x.dtype == np.float32 and x.size:
            least, most = x.min(), x.max()
            if least >= -LARGEST and most <= LARGEST:  # so that no number is NaN
                return x.astype(np.float32, copy=False), []
        numbers = x if x.dtype == np.float32 else x.astype(np.float64)
        for index, column in enumerate(self.columns):
            if column.missing and (missing := column.is_missing(numbers[:, index])).any():
                numbers = numbers.copy() if numbers is x else numbers
                numbers[missing, index] = np.nan
        bad = ~(np.abs(numbers) <= LARGEST)
        if self.kind == "tabular":
            bad &= ~np.isnan(numbers)
        faults = [Fault(row, place, NOT_FINITE) for row, place in first_in_rows(bad)]
        rows = np.where(bad, 0, numbers).astype(np.float32) if faults else numbers.astype(np.float32, copy=False)
        if any(column.kind == "categorical" for column in self.columns):
            rows, found = self._codes(rows)
            faults += found
        return rows, faults

    def _codes(self, rows: Floats) -> tuple[Floats, list[Fault]]:
        """Check category indices: an index out of range becomes -1 (unseen), and a fraction is a fault."""
        counts = np.array([len(column.categories or ()) for column in self.columns])
        categorical = np.array([column.kind == "categorical" for column in self.columns])
        between = categorical & (rows != np.floor(rows)) & ~np.isnan(rows)
        faults = [
            Fault(row, place, f"expected the index of a category, got {rows[(row, *place)]:g}")
            for row, place in first_in_rows(between)
        ]
        return np.where(categorical & ((rows < 0) | (rows >= counts)), np.float32(-1), rows), faults

    def _faulty(self, rows: Sequence[object]) -> tuple[Floats, list[Fault]]:
        """Find the first fault of each wrong row: one fault per row is enough to correct the row."""
        faults = []
        for index, row in enumerate(rows):
            fault = first_fault(row, self.shape, ())
            if fault is not None:
                faults.append(Fault(index, *fault))
        return np.zeros((len(rows), *self.shape), dtype=np.float32), faults

    def example_rows(self, count: int, seed: int = 0) -> "Tensor":
        """Generate plausible rows from the schema alone, for self-tests; the last row of a table has no values."""
        import torch  # noqa: PLC0415 - a front has no torch

        generator = torch.Generator().manual_seed(seed)
        if self.kind != "tabular":
            return torch.rand((count, *self.shape), generator=generator)
        x = torch.empty((count, len(self.columns)))
        for index, column in enumerate(self.columns):
            if column.kind == "categorical":
                x[:, index] = torch.randint(len(column.categories or ("",)), (count,), generator=generator).float()
            else:
                low = column.fill - 1 if column.minimum is None else column.minimum
                high = max(low, column.fill + 1) if column.maximum is None else column.maximum
                low = min(low, high)
                x[:, index] = low + (high - low) * torch.rand(count, generator=generator)
        x[-1] = torch.nan
        return x
