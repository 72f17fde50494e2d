"""What a row is: columns by name, or a shape; the one place that turns values into the model's tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import Tensor

__all__ = ["Column", "ColumnSpec", "Fault", "Floats", "InputSchema", "InputSpec", "Label", "first_in_rows"]

Floats = npt.NDArray[np.float32]
Kind = Literal["numeric", "categorical"]
NUMBERS = frozenset({int, float})
LARGEST = float(np.finfo(np.float32).max)
NOT_FINITE = "NaN, Infinity and numbers beyond float32 are no values; a missing value is null"


def as_label(value: object) -> object:
    """Read an integer as its digits: labels and categories are strings everywhere."""
    if isinstance(value, bool):
        raise ValueError(f"{value} is a boolean in YAML; put the label in quotes")  # noqa: TRY004 - pydantic's way
    return str(value) if isinstance(value, int) else value


Label = Annotated[str, BeforeValidator(as_label)]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why no tensor can be made of a row: its index, the place inside it, and a sentence."""

    row: int
    place: tuple[str | int, ...]
    message: str


class ColumnSpec(BaseModel):
    """A tabular column as a config declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    kind: Kind
    minimum: float | None = Field(default=None, description="a smaller value is a declared violation")
    maximum: float | None = Field(default=None, description="a larger value is a declared violation")
    categories: tuple[Label, ...] | None = Field(
        default=None, description="declared: any other value is a violation; default: those of the reference, sorted"
    )
    nullable: bool | None = Field(default=None, description="false: a missing value is a declared violation")
    impute: Literal["reference", "none"] = Field(
        default="reference",
        description="what the model gets for a missing or unseen value: the reference's median or most frequent "
        "category, or (none) NaN and -1",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "numeric" and self.categories is not None:
            raise ValueError("a numeric column has no categories: leave them out, or make it categorical")
        if self.kind == "categorical" and (self.minimum is not None or self.maximum is not None):
            raise ValueError("a categorical column has no minimum or maximum: leave them out, or make it numeric")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        if self.categories is not None and len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is listed twice")
        return self


class Column(ColumnSpec):
    """A column as fitted: its categories known, and what stands in for a missing value in the model's input."""

    categories_declared: bool = False
    fill: float = 0.0

    def encode(self, values: Sequence[object] | npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        """Turn one column's values into numbers: NaN for missing, the category's index, -1 for an unseen one.

        An array of numbers holds NaN for missing, and of a categorical column the index already.
        """
        if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
            numbers = values.astype(np.float64)
            if self.kind == "categorical":
                # A model looks its categories up: one that is not there would crash it, and on a GPU the process.
                known = np.isin(numbers, np.arange(len(self.categories or ()))) | np.isnan(numbers)
                numbers = np.where(known, numbers, -1.0)
            return self._checked(numbers)
        values = list(values)
        return self._encode_numbers(values) if self.kind == "numeric" else self._encode_categories(values)

    def _encode_numbers(self, values: Sequence[object]) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        kinds = set(map(type, values))
        if kinds <= NUMBERS:
            return self._checked(_as_floats(values), nan_is_missing=False)
        faults = [
            Fault(row, (self.name,), f"expected a number or null, got {describe(value)}")
            for row, value in enumerate(values)
            if value is not None and type(value) not in NUMBERS
        ]
        present = np.array([type(value) in NUMBERS for value in values])
        numbers = _as_floats([value if ok else 0.0 for value, ok in zip(values, present, strict=True)])
        numbers, more = self._checked(numbers, nan_is_missing=False)
        numbers[~present] = np.nan
        return numbers, faults + more

    def _encode_categories(self, values: Sequence[object]) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        codes: dict[object, float] = {name: float(index) for index, name in enumerate(self.categories or ())}
        codes[None] = np.nan
        if set(map(type, values)) <= {str, type(None)}:
            return np.array([codes.get(value, -1.0) for value in values], dtype=np.float64), []
        faults, encoded = [], np.full(len(values), -1.0)
        for row, value in enumerate(values):
            # An integer may name a category that is written as one; any other number is a mistake of type.
            name = str(value) if type(value) is int else value
            if isinstance(name, str | None) and (name is value or name in codes):
                encoded[row] = codes.get(name, -1.0)
            else:
                faults.append(Fault(row, (self.name,), f"expected a string or null, got {describe(value)}"))
        return encoded, faults

    def _checked(
        self, numbers: npt.NDArray[np.float64], *, nan_is_missing: bool = True
    ) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        bad = np.abs(numbers) > LARGEST
        if not nan_is_missing:
            bad |= np.isnan(numbers)
        return numbers, [Fault(int(row), (self.name,), NOT_FINITE) for row in np.flatnonzero(bad)]


class InputSpec(BaseModel):
    """The ``input`` section of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["image", "tabular", "tensor"]
    shape: tuple[int, ...] | None = Field(
        default=None, description="image, tensor: one row, channels first, without the batch"
    )
    columns: tuple[ColumnSpec, ...] = Field(default=(), description="tabular; empty: inferred from the reference")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "tabular":
            if self.shape is not None:
                raise ValueError("a tabular input has columns, not a shape: leave `shape` out")
            names = [column.name for column in self.columns]
            if len(set(names)) < len(names):
                raise ValueError("a column is listed twice")
        else:
            if self.columns:
                raise ValueError(f"input of kind {self.kind} has a shape, not columns: leave `columns` out")
            if not self.shape or any(size < 1 for size in self.shape):
                raise ValueError(f"input of kind {self.kind} needs `shape`: the positive sizes of one row")
            if self.kind == "image" and len(self.shape) != 3:  # noqa: PLR2004
                raise ValueError("an image's shape is [channels, height, width]")
        return self


class InputSchema(BaseModel):
    """A row as the fitted pipeline knows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["image", "tabular", "tensor"]
    shape: tuple[int, ...]
    columns: tuple[Column, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the model's order."""
        return tuple(column.name for column in self.columns)

    @property
    def categorical(self) -> Tensor:
        """Which columns are categorical: (d,) bool."""
        return torch.tensor([column.kind == "categorical" for column in self.columns], dtype=torch.bool)

    def encode(self, table: Mapping[str, Sequence[object] | npt.NDArray[np.generic]]) -> tuple[Floats, list[Fault]]:
        """Turn columns by name into rows (n, d); every column must be there, and equally long."""
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
        numbers = _as_floats(level)
        if not (np.abs(numbers) <= LARGEST).all():
            return self._faulty(rows)
        return numbers.astype(np.float32).reshape(len(rows), *self.shape), []

    def take(self, x: npt.NDArray[np.number[Any]]) -> tuple[Floats, list[Fault]]:
        """Take rows (n, *shape) that are numbers already, without a copy where they are float32.

        In a table NaN is a missing value, a category its index, and an index beyond them an unseen category.
        """
        numbers = x if x.dtype == np.float32 else x.astype(np.float64)
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
        """Check the categories' indices: beyond them is unseen, and between two of them a mistake."""
        counts = np.array([len(column.categories or ()) for column in self.columns])
        categorical = self.categorical.numpy()
        between = categorical & (rows != np.floor(rows)) & ~np.isnan(rows)
        faults = [
            Fault(row, place, f"expected the index of a category, got {rows[(row, *place)]:g}")
            for row, place in first_in_rows(between)
        ]
        return np.where(categorical & ((rows < 0) | (rows >= counts)), np.float32(-1), rows), faults

    def _faulty(self, rows: Sequence[object]) -> tuple[Floats, list[Fault]]:
        """Say what is wrong with each row that is; one fault a row is enough to mend it."""
        faults = []
        for index, row in enumerate(rows):
            fault = _first_fault(row, self.shape, ())
            if fault is not None:
                faults.append(Fault(index, *fault))
        return np.zeros((len(rows), *self.shape), dtype=np.float32), faults

    def example_rows(self, count: int, seed: int = 0) -> Tensor:
        """Make up plausible rows from the schema alone, for self-tests; the last tabular row lacks all its values."""
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


def first_in_rows(bad: npt.NDArray[np.bool_]) -> list[tuple[int, tuple[int, ...]]]:
    """Name the rows of a mask (n, ...) where it holds, and the first such place in each."""
    flat = bad.reshape(len(bad), -1)
    firsts = np.unravel_index(flat.argmax(1), bad.shape[1:] or (1,))
    return [
        (row, tuple(int(axis[row]) for axis in firsts) if bad.ndim > 1 else ())
        for row in np.flatnonzero(flat.any(1)).tolist()
    ]


def describe(value: object) -> str:
    """Name a wrong value by its JSON type, and show it where it is short."""
    names: dict[type, str] = {
        bool: "a boolean", str: "a string", list: "a list", dict: "an object", type(None): "null",
        int: "a number", float: "a number",
    }  # fmt: skip
    name = names.get(type(value), type(value).__name__)
    if isinstance(value, str | bool | int | float) and len(str(value)) <= 40:  # noqa: PLR2004
        return f"{name}: {value!r}"
    return name


def _as_floats(values: Sequence[object]) -> npt.NDArray[np.float64]:
    """Convert ints and floats; an int beyond float64 becomes infinite, and so a fault."""
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([np.inf if abs(value) > LARGEST else value for value in values], dtype=np.float64)  # type: ignore[arg-type]


def _first_fault(
    value: object, shape: tuple[int, ...], place: tuple[int, ...]
) -> tuple[tuple[str | int, ...], str] | None:
    if not shape:
        if type(value) not in NUMBERS:
            return place, f"expected a number, got {describe(value)}"
        return None if abs(value) <= LARGEST else (place, NOT_FINITE)  # type: ignore[arg-type]
    if not isinstance(value, list):
        return place, f"expected a list of {shape[0]}, got {describe(value)}"
    if len(value) != shape[0]:
        return place, f"expected a list of {shape[0]}, got one of {len(value)}"
    for index, inner in enumerate(value):
        fault = _first_fault(inner, shape[1:], (*place, index))
        if fault is not None:
            return fault
    return None
