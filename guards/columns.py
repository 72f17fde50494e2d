"""A tabular column: as a config declares it, and as fitted, which turns its values into numbers."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from guards.faults import LARGEST, NOT_FINITE, NUMBERS, Fault, as_floats, describe

__all__ = ["Column", "ColumnSpec", "Label", "NamedLabel", "as_label", "check_name"]

Kind = Literal["numeric", "categorical"]


def as_label(value: object) -> object:
    """Read an integer as its digits: labels and categories are strings everywhere."""
    if isinstance(value, bool):
        raise ValueError(f"{value} is a boolean in YAML; put the label in quotes")  # noqa: TRY004 - pydantic's way
    return str(value) if isinstance(value, int) else value


def check_name(label: str) -> str:
    """Return a label that can name a class or a group.

    Raises:
        ValueError: it is empty, which means "no label" in answers and files, or holds a control character, which
            databases and headers do not take.
    """
    if not label:
        raise ValueError("the empty string stands for no label: give it a name")
    if any(unicodedata.category(character) == "Cc" for character in label):
        raise ValueError(f"the label {label!r} holds a control character: leave it out")
    return label


Label = Annotated[str, BeforeValidator(as_label)]
NamedLabel = Annotated[Label, AfterValidator(check_name)]
"""A label that answers, files and series show as a name."""


def _writings(value: float) -> tuple[str, ...]:
    if isinstance(value, bool):
        return str(value), str(value).lower()
    if isinstance(value, int):
        return str(value), f"{value}.0"
    return (repr(value), str(int(value))) if value.is_integer() else (repr(value),)


class ColumnSpec(BaseModel):
    """A tabular column as a config declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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

        An array of numbers holds NaN for missing, and of a categorical column the index already. Any other number or
        boolean is no index: it names a category, by :meth:`category_of`.
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

    def category_of(self, value: float) -> str | None:
        """Give the category that a number or a boolean names, since it is written so; None if there is none.

        1 and 1.0 are the same number, and name the category "1" or "1.0".

        Raises:
            ValueError: two categories are written so.
        """
        names = [name for name in dict.fromkeys(_writings(value)) if name in (self.categories or ())]
        if len(names) > 1:
            raise ValueError(f"{describe(value)} could mean {names[0]!r} or {names[1]!r}: send the string")
        return names[0] if names else None

    @property
    def misread_category(self) -> str | None:
        """A category that is written as a number other than its index: then a number could mean two categories."""
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
        codes: dict[object, float] = {name: float(index) for index, name in enumerate(self.categories or ())}
        codes[None] = np.nan
        if set(map(type, values)) <= {str, type(None)}:
            return np.array([codes.get(value, -1.0) for value in values], dtype=np.float64), []
        faults, encoded = [], np.full(len(values), -1.0)
        for row, value in enumerate(values):
            if isinstance(value, str | None):
                encoded[row] = codes.get(value, -1.0)
                continue
            message = f"expected a string or null, got {describe(value)}"
            try:
                name = self.category_of(value) if isinstance(value, bool | int | float) else None
            except ValueError as two:
                name, message = None, str(two)
            if name is None:
                faults.append(Fault(row, (self.name,), message))
            else:
                encoded[row] = codes[name]
        return encoded, faults

    def _checked(
        self, numbers: npt.NDArray[np.float64], *, nan_is_missing: bool = True
    ) -> tuple[npt.NDArray[np.float64], list[Fault]]:
        bad = np.abs(numbers) > LARGEST
        if not nan_is_missing:
            bad |= np.isnan(numbers)
        return numbers, [Fault(int(row), (self.name,), NOT_FINITE) for row in np.flatnonzero(bad)]
