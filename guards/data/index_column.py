"""Leaves out the index of a table: a column of row numbers or row names beside the data."""

import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.notices import Notices
from guards.types import Mistake

__all__ = ["say_left_out", "whole_numbers", "without_row_numbers"]

Named = list[tuple[str, int]]
"""Names of columns with their places in the file."""
CellsOf = Callable[[int], Iterable[npt.NDArray[Any]]]
UNNAMED = re.compile(r"|Unnamed: \d+(\.\d+)*")
"""The names that pandas gives to columns without a name."""


def without_row_numbers(
    columns: Named, cells_of: CellsOf, wanted: AbstractSet[str], path: Path, notices: Notices
) -> Named:
    """Leave out a first column without a name whose values all differ: the index that pandas wrote.

    A column that is ``wanted`` by its name stays. ``cells_of`` reads a column by its place, part by part.

    Raises:
        Mistake: another column has no name.
    """
    while columns and columns[0][0] not in wanted and _is_index(columns[0], cells_of):
        name, place = columns.pop(0)
        say_left_out(
            f"the first column ({name!r})" if name else "the first column, without a name,",
            path,
            notices,
            whole=all(map(whole_numbers, cells_of(place))),
        )
    for index, (name, _) in enumerate(columns):
        if not name:
            raise Mistake(f"{path}: column {index + 1} of the inputs has no name; write a name for it in the header")
        if UNNAMED.fullmatch(name) and name not in wanted:
            notices.warn(
                f"{path}: the column {name!r} has a name that pandas gives to a column without a name; if the column "
                "is an index, write the file with index=False; if not, give the column a name"
            )
    return columns


def say_left_out(column: str, path: Path, notices: Notices, *, whole: bool) -> None:
    """Say that an index is left out: in a note if it holds ``whole`` numbers, else in a warning: it may be data."""
    told = f"{path}: {column} is left out as an index of the rows"
    if whole:
        notices.note(f"{told}; if the column holds data, give the column a name")
    else:
        notices.warn(f"{told}, though it does not hold row numbers; if the column holds data, give the column a name")


def _is_index(column: tuple[str, int], cells_of: CellsOf) -> bool:
    name, place = column
    return UNNAMED.fullmatch(name) is not None and _distinct(cells_of(place))


def _distinct(parts: Iterable[npt.NDArray[Any]]) -> bool:
    seen: set[object] = set()
    count = 0
    for cells in parts:
        seen.update(cells.tolist())
        count += len(cells)
        if None in seen or len(seen) < count:
            return False
    return True


def whole_numbers(cells: npt.NDArray[Any]) -> bool:
    """Whether all values are whole numbers, as row numbers are."""
    if cells.dtype != object:
        return bool(np.isfinite(cells).all() and (cells == np.floor(cells)).all())
    return all(isinstance(cell, int) or (isinstance(cell, str) and cell.isdecimal()) for cell in cells)
