"""A table as its file has it: columns by name, each with the type that the file gives the column."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from guards.sentences import counted
from guards.types import Mistake

__all__ = [
    "GROUP",
    "ColumnType",
    "Table",
    "TableColumn",
    "as_texts",
    "choices",
    "exists",
    "unlike_names",
]

GROUP = "group_"
"""Columns whose names begin so hold groups of the rows, and are no input of the model."""

ColumnType = Literal["untyped", "text", "number", "boolean", "category", "date", "nested"]
"""``untyped`` is a field of a CSV: text that may stand for anything. The others are types of the file.

``nested`` is whatever has no single value per row: lists, structures, bytes.
"""

MANY = 20


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class TableColumn:
    """One column of a file.

    ``cells`` (n,) is float64 with NaN for missing, int64 or uint64 without missing values, or object: ``str``,
    ``bool``, ``int``, ``float``, with None for missing. ``categories`` are those that the file declares (a dictionary
    or a category type), in the file's order, which is the order of their codes; ``ordered`` says that the file calls
    the order meaningful.
    """

    cells: npt.NDArray[Any]
    type: ColumnType
    categories: tuple[str, ...] | None = None
    ordered: bool = False

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.cells)

    def with_missing(self, *, also: tuple[str, ...]) -> "TableColumn":
        """Give the column with some strings as missing values."""
        if self.cells.dtype != object or not also:
            return self
        cells = self.cells.copy()
        for mark in also:
            cells[cells == mark] = None
        categories = self.categories and tuple(name for name in self.categories if name not in also)
        return replace(self, cells=cells, categories=categories)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The columns of a file, by name, all equally long, in the file's order."""

    path: Path
    columns: dict[str, TableColumn]

    def __len__(self) -> int:
        """Count the rows."""
        return len(next(iter(self.columns.values()), ()))


def as_texts(values: npt.NDArray[Any]) -> list[str | None]:
    """Read values as categories: a number as its shortest digits, a missing value as None."""
    if values.dtype.kind == "S":
        values = values.astype(str)
    if values.dtype.kind in "iu":
        return [str(value) for value in values.tolist()]
    if values.dtype.kind in "fb":
        numbers = values.astype(np.float64).tolist()
        return [None if value != value else repr(value).removesuffix(".0") for value in numbers]  # noqa: PLR0124 - NaN
    return [None if value is None else str(value) for value in values.astype(object)]


def choices(name: str, names: Sequence[str]) -> str:
    """Say which names there are instead of one that is missing; if they are many, the most similar names."""
    if len(names) <= MANY:
        return f"there are {sorted(names)}"
    close = difflib.get_close_matches(name, names, n=MANY, cutoff=0)
    return f"there are {close} and {counted(len(names) - MANY, 'more column')}"


def exists(path: Path, *, folder: bool = False) -> None:
    """Refuse a path that names no file; a folder will do if ``folder`` is given.

    Raises:
        Mistake: there is no such file.
    """
    if not path.is_file() and not (folder and path.is_dir()):
        raise Mistake(f"{path}: no such file")


def unlike_names(names: Sequence[str], path: Path) -> None:
    """Refuse names of columns if two names are the same, or a name is empty.

    Raises:
        Mistake: two columns have the same name, or a column has none.
    """
    if "" in names:
        raise Mistake(f"{path}: column {names.index('') + 1} has no name; give it a name")
    if len(set(names)) == len(names):
        return
    twice = next(name for name, count in Counter(names).items() if count > 1)
    places = " and ".join(str(index + 1) for index, name in enumerate(names) if name == twice)
    raise Mistake(f"{path}: the name {twice!r} is given twice, to the columns {places}; rename one of them")
