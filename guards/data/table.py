"""A table as it is in its file: columns by name, each with the type that the file gives the column."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from guards.data.name_order import folded
from guards.input.spelling import key_of
from guards.sentences import counted
from guards.types import Mistake

__all__ = [
    "EXACT",
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
"""A column whose name begins with this text holds groups of the rows, and is no input of the model."""

ColumnType = Literal["untyped", "text", "number", "boolean", "category", "date", "nested"]
"""A column of a CSV is ``untyped``: its texts may mean anything. The others are types that the file declares.

A ``nested`` column has no single value per row: it holds lists, structures or bytes.
"""

POINTER = b"version https://git-lfs.github.com/"
EXACT = 2**53
"""float64 holds every whole number up to this one, and not every number beyond it."""
MANY = 20


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class TableColumn:
    """One column of a file.

    ``cells`` (n,) is float64 with NaN for missing, int64 or uint64 without missing values, or object: ``str``,
    ``bool``, ``int``, ``float``, with None for missing. ``categories`` are the categories that the file declares (by a
    dictionary or a category type), in the order of their codes in the file; ``ordered`` is true if the file declares
    the order as meaningful.
    """

    cells: npt.NDArray[Any]
    type: ColumnType
    categories: tuple[str, ...] | None = None
    ordered: bool = False

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.cells)

    def with_missing(self, *, also: tuple[str, ...]) -> "TableColumn":
        """Give the column with more missing values: the texts ``also``, and the numbers that these texts mean."""
        if not also:
            return self
        keys = {key for key in map(key_of, also) if key[0] == "number"}
        marks: set[object] = set(also)
        if keys:
            different = pd.Series(pd.unique(self.cells))
            equal = pd.to_numeric(different, errors="coerce").isin([float(str(number)) for _, number in keys])
            marks |= {value for value in different[equal] if not isinstance(value, bool) and key_of(value) in keys}
        absent = pd.Series(self.cells).isin(marks).to_numpy()
        if not absent.any():
            return self
        cells = self.cells.astype(np.float64 if _as_floats(self.cells) else object)
        cells[absent] = None
        categories = self.categories and tuple(name for name in self.categories if name not in marks)
        return replace(self, cells=cells, categories=categories)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The columns of a file, by name, all equally long, in the file's order."""

    path: Path
    columns: dict[str, TableColumn]

    def __len__(self) -> int:
        """Count the rows."""
        return len(next(iter(self.columns.values()), ()))


def _as_floats(cells: npt.NDArray[Any]) -> bool:
    """Whether float64 holds all cells exactly, so that NaN can stand for a missing value."""
    return cells.dtype.kind == "f" or (cells.dtype.kind in "iu" and bool((np.abs(cells.astype(float)) <= EXACT).all()))


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
    """Say which names there are if ``name`` is not among them; of many names, only the most similar."""
    twin = next((other for other in names if folded(other) == folded(name)), None)
    if twin is not None:
        return (
            f"there is {twin!r}, which differs only in capitals, spaces or the Unicode form of its letters: write the "
            "name in one way"
        )
    if len(names) <= MANY:
        return f"there are {sorted(names)}"
    close = difflib.get_close_matches(name, names, n=MANY, cutoff=0)
    return f"there are {close} and {counted(len(names) - MANY, 'more column')}"


def exists(path: Path, *, folder: bool = False) -> None:
    """Refuse a path at which there is no file, or only a pointer of Git LFS; ``folder`` also allows a folder.

    Raises:
        Mistake: there is no such file, or the file only says where Git LFS has the data.
    """
    if not path.is_file() and not (folder and path.is_dir()):
        raise Mistake(f"{path}: no such file")
    if path.is_file():
        with path.open("rb") as stream:
            if stream.read(len(POINTER)) == POINTER:
                raise Mistake(
                    f"{path}: the file is only a pointer of Git LFS to the data; fetch the data: git lfs pull"
                )


def unlike_names(names: Sequence[str], path: Path) -> None:
    """Refuse names of columns if two names are equal, or a name is empty.

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
