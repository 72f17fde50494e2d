"""Leaves out the index of a table: a column of row numbers or row names beside the data."""

import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.notices import Notices
from guards.types import Mistake

__all__ = ["say_left_out", "without_row_numbers"]

Named = list[tuple[str, npt.NDArray[Any]]]
UNNAMED = re.compile(r"|Unnamed: \d+(\.\d+)*")
"""The names that pandas gives to columns without a name."""


def without_row_numbers(columns: Named, wanted: AbstractSet[str], path: Path, notices: Notices) -> Named:
    """Leave out a first column without a name whose values all differ: the index that pandas wrote.

    A column that is ``wanted`` by its name stays.

    Raises:
        Mistake: another column has no name.
    """
    while columns and _is_index(*columns[0]) and columns[0][0] not in wanted:
        name, cells = columns.pop(0)
        say_left_out(
            f"the first column ({name!r})" if name else "the first column, without a name,", cells, path, notices
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


def say_left_out(column: str, cells: npt.NDArray[Any], path: Path, notices: Notices) -> None:
    """Say that an index is left out: in a note if it holds whole numbers, else in a warning, since it may be data."""
    told = f"{path}: {column} is left out as an index of the rows"
    if _whole(cells):
        notices.note(f"{told}; if the column holds data, give the column a name")
    else:
        notices.warn(f"{told}, though it does not hold row numbers; if the column holds data, give the column a name")


def _is_index(name: str, cells: npt.NDArray[Any]) -> bool:
    return UNNAMED.fullmatch(name) is not None and _distinct(cells)


def _distinct(cells: npt.NDArray[Any]) -> bool:
    values = cells.tolist()
    return None not in values and len(set(values)) == len(values)


def _whole(cells: npt.NDArray[Any]) -> bool:
    if cells.dtype != object:
        return bool(np.isfinite(cells).all() and (cells == np.floor(cells)).all())
    return all(isinstance(cell, int) or (isinstance(cell, str) and cell.isdecimal()) for cell in cells)
