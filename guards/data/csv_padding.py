"""Removes the spaces that only align the fields of a text file."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from guards.data.table import TableColumn
from guards.notices import Notices
from guards.sentences import named

__all__ = ["without_padding"]

SHOWN = 5


def without_padding(columns: dict[str, TableColumn], path: Path, notices: Notices) -> dict[str, TableColumn]:
    """Take spaces off the fields of a column if all its fields begin with a space, or all are padded to one length.

    A field that holds nothing but spaces is missing. Other spaces stay: they may be a part of the value.
    """
    result, padded, blank = dict(columns), [], []
    for name, column in columns.items():
        texts = pa.array(column.cells, pa.string())
        bare = pc.utf8_trim(texts, " ")
        empty = pc.equal(bare, "")
        present = texts.filter(pc.invert(empty))
        if not len(present):
            continue
        if pc.any(empty).as_py():
            blank.append(name)
            texts, bare = (pc.if_else(empty, None, each) for each in (texts, bare))
            result[name] = TableColumn(_cells(texts), column.type)
        lengths = pc.min_max(pc.utf8_length(present)).as_py()
        aligned = lengths["min"] == lengths["max"] and _one_side(present)
        if aligned or pc.all(pc.starts_with(present, " ")).as_py():
            padded.append(name)
            result[name] = TableColumn(_cells(bare), column.type)
    if padded:
        notices.note(f"{path}: spaces around the fields are taken off in {named(padded, SHOWN, noun='column')}")
    if blank:
        notices.note(
            f"{path}: fields that hold only spaces are read as missing in {named(blank, SHOWN, noun='column')}"
        )
    return result


def _one_side(texts: pa.Array) -> bool:
    """Whether there are spaces before the texts or after the texts, but not both."""
    left = pc.all(pc.equal(texts, pc.utf8_ltrim(texts, " "))).as_py()
    right = pc.all(pc.equal(texts, pc.utf8_rtrim(texts, " "))).as_py()
    return bool(left != right)


def _cells(texts: pa.Array) -> npt.NDArray[Any]:
    return np.asarray(texts.to_numpy(zero_copy_only=False), dtype=object)
