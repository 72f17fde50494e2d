"""A tabular column, as a config declares it and as it was fitted. A fitted column turns values into numbers."""

import math
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from guards.input.cell_faults import LARGEST, NOT_FINITE, NUMBERS, Fault, as_floats, describe
from guards.input.spelling import Spellings, key_of, number_of

__all__ = ["Column", "ColumnSpec", "Kind", "Label", "Mark", "NamedLabel", "as_label", "check_name"]

Kind = Literal["numeric", "categorical"]


def as_label(value: object) -> object:
    """Read an integer as its digits: labels and categories are strings everywhere."""
    if isinstance(value, bool):
        raise ValueError(f"{value} is a boolean in YAML; put the label in quotes")  # noqa: TRY004 - pydantic's way
    return str(value) if isinstance(value, int) else value


def check_name(label: str) -> str:
    """Return a label that can name a class or a group.

    Raises:
        ValueError: the label is empty, which means "no label" in answers and files, or holds a control character,
            which databases and headers refuse.
    """
    if not label:
        raise ValueError("the empty string stands for no label: give it a name")
    if any(unicodedata.category(character) == "Cc" for character in label):
        raise ValueError(f"the label {label!r} holds a control character: leave it out")
    return label


def _as_mark(value: object) -> object:
    """Read a number as its digits: later, a marker of missing values is compared with numbers by value."""
    return repr(value) if isinstance(value, float) else as_label(value)


Label = Annotated[str, BeforeValidator(as_label)]
Mark = Annotated[str, BeforeValidator(_as_mark)]
NamedLabel = Annotated[Label, AfterValidator(check_name)]
"""A label that answers, files and series show as a name."""


class ColumnSpec(BaseModel):
    """A tabular column as a config declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, description="the column's name, as in the file")
    kind: Kind | None = Field(default=None, description="default: decided by the reference's values")
    minimum: float | None = Field(default=None, description="a smaller value is a declared violation")
    maximum: float | None = Field(default=None, description="a larger value is a declared violation")
    categories: tuple[Label, ...] | None = Field(
        default=None,
        description="if declared, any other value is a violation; default: the categories of the reference, sorted",
    )
    nullable: bool | None = Field(default=None, description="false: a missing value is a declared violation")
    impute: Literal["reference", "none"] = Field(
        default="reference",
        description="what the model gets for a missing or unseen value; reference: the reference's median or most "
        "frequent category; none: NaN for a number, -1 for a category",
    )
    missing: tuple[Mark, ...] = Field(
        default=(), description="values that mean missing in this column, in addition to reference.missing"
    )
    scale: float | None = Field(
        default=None,
        description="for a numeric column: the model gets value * scale, and guards see the value as it was sent",
    )
    drop: bool = Field(default=False, description="true: the model does not get the column")

    @property
    def declared_kind(self) -> Kind | None:
        """The declared kind, or the kind that the other keys imply; None if the reference's values decide."""
        if self.kind is not None:
            return self.kind
        if self.categories is not None:
            return "categorical"
        return None if self.minimum is None and self.maximum is None and self.scale is None else "numeric"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.drop and self.model_dump(exclude={"name", "kind", "drop"}, exclude_defaults=True):
            raise ValueError("a dropped column is never read: leave its other keys out, or leave out `drop`")
        if self.kind == "numeric" and self.categories is not None:
            raise ValueError("a numeric column has no categories: leave them out, or make it categorical")
        if self.kind == "categorical" and (self.minimum is not None or self.maximum is not None):
            raise ValueError("a categorical column has no minimum or maximum: leave them out, or make it numeric")
        bounded = self.minimum is not None or self.maximum is not None or self.scale is not None
        if self.categories is not None and bounded:
            raise ValueError("a column has either categories, or bounds and a scale: leave out one of the two")
        if self.kind == "categorical" and self.scale is not None:
            raise ValueError("a categorical column has no scale: leave it out, or make it numeric")
        if self.scale == 0:
            raise ValueError("a scale of 0 would make every value 0: drop the column, or give another scale")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        if self.categories is not None and len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is listed twice")
        return self


class Column(ColumnSpec):
    """A fitted column, with its categories, and with ``fill``, which replaces missing values in the model's input."""

    kind: Kind
    categories_declared: bool = False
    fill: float = 0.0

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self.categories or ())

    @cached_property
    def _marks(self) -> Spellings:
        return Spellings(self.missing)

    @cached_property
    def _codes(self) -> dict[object, float]:
        codes: dict[object, float] = {name: float(index) for index, name in enumerate(self.categories or ())}
        return codes | dict.fromkeys((*self.missing, None), math.nan)

    @cached_property
    def _missing_numbers(self) -> npt.NDArray[np.float32]:
        keys = [key_of(mark) for mark in self.missing]
        return np.array([float(str(value)) for kind, value in keys if kind == "number"], dtype=np.float32)

    def is_missing(self, numbers: npt.NDArray[np.number[Any]]) -> npt.NDArray[np.bool_]:
        """Return which numbers (n,) are listed in the column's ``missing``, compared as float32."""
        if self.kind == "categorical" or not len(self._missing_numbers):
            return np.zeros(len(numbers), dtype=np.bool_)
        with np.errstate(over="ignore"):  # a number beyond float32 equals no marker
            return np.isin(numbers.astype(np.float32), self._missing_numbers)

    def encode(self, values: Sequence[object] | npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        """Turn one column's values into numbers: NaN for missing, the category's index, -1 for an unseen one.

        An array of numbers holds NaN for missing values, and for a categorical column it holds category indices. In any
        other sequence, a number or a boolean is no index: it names a category, see :meth:`category_of`.
        """
        if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
            numbers = values.astype(np.float64)
            if self.kind == "categorical":
                # A model looks up a category's index in a table. An index outside the table would crash the model, and
                # on a GPU the whole process.
                known = np.isin(numbers, np.arange(len(self.categories or ()))) | np.isnan(numbers)
                numbers = np.where(known, numbers, -1.0)
            return self._checked(numbers)
        values = list(values)
        return self._encode_numbers(values) if self.kind == "numeric" else self._encode_categories(values)

    def _encode_numbers(self, values: Sequence[object]) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        kinds = set(map(type, values))
        if kinds <= NUMBERS:
            return self._checked(as_floats(values), nan_is_missing=False)
        faults = [
            Fault(row, (self.name,), f"expected a number or null, got {describe(value)}")
            for row, value in enumerate(values)
            if value is not None and type(value) not in NUMBERS
        ]
        present = np.array([type(value) in NUMBERS for value in values])
        numbers = as_floats([value if ok else 0.0 for value, ok in zip(values, present, strict=True)])
        numbers, more = self._checked(numbers, nan_is_missing=False)
        numbers[~present] = np.nan
        return numbers, faults + more

    def category_of(self, value: str | float) -> str | None:
        """Give the category that a string, a number or a boolean means; None if there is none.

        A string is the category of that name; 1, 1.0 and "1.0" are the same number, and mean the category "1".

        Raises:
            ValueError: the value could mean two categories.
        """
        return self._spellings.name_of(value)

    @property
    def numbers_taken(self) -> list[int | float]:
        """The numbers that a categorical column takes: each means a category or a missing value."""
        numbers = dict.fromkeys(map(number_of, (*(self.categories or ()), *self.missing)))
        return [number for number in numbers if number is not None and self._takes(number)]

    def _takes(self, number: float) -> bool:
        try:
            self._code(number)
        except ValueError:  # it could mean two categories
            return False
        return True

    @property
    def is_boolean(self) -> bool:
        """Whether the categories are false and true."""
        return {key_of(name) for name in self.categories or ()} == {("boolean", False), ("boolean", True)}

    @property
    def misread_category(self) -> str | None:
        """The first category whose name is a number other than its index: such a number could mean two categories."""
        if self.kind == "numeric":
            return None
        for index, name in enumerate(self.categories or ()):
            try:
                number = float(name)
            except ValueError:
                continue
            if math.isfinite(number) and number != index:
                return name
        return None

    def _encode_categories(self, values: Sequence[object]) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        codes = self._codes
        if set(map(type, values)) <= {str, type(None)}:
            found = [codes.get(value) for value in values]
            if None not in found:
                return np.array(found, dtype=np.float64), []
        faults, encoded = [], np.full(len(values), -1.0)
        for row, value in enumerate(values):
            try:
                encoded[row] = self._code(value)
            except ValueError as wrong:
                faults.append(Fault(row, (self.name,), str(wrong)))
        return encoded, faults

    def _code(self, value: object) -> float:
        """Give the index of the category that a value means, -1 for a string that means none, NaN for missing.

        Raises:
            ValueError: the value is no string and means no category, or it could mean two.
        """
        if isinstance(value, str | None) and value in self._codes:
            return self._codes[value]
        if isinstance(value, str | bool | int | float):
            name = self.category_of(value)
            if name is not None:
                return self._codes[name]
            if self._marks.name_of(value) is not None:
                return math.nan
        if not isinstance(value, str):
            raise ValueError(f"expected a string or null, got {describe(value)}")  # noqa: TRY004 - becomes a fault
        return -1.0

    def _checked(
        self, numbers: npt.NDArray[np.float64], *, nan_is_missing: bool = True
    ) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        bad = np.abs(numbers) > LARGEST
        if not nan_is_missing:
            bad |= np.isnan(numbers)
        if self.missing and (missing := self.is_missing(numbers)).any():
            numbers = np.where(missing, np.nan, numbers)
        return numbers, [Fault(int(row), (self.name,), NOT_FINITE) for row in np.flatnonzero(bad)]
