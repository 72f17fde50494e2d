"""Removes the spaces that only align the fields of a text file."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from guards.data.table import TableColumn
from guards.notices import Notices
from guards.sentences import named

__all__ = ["Padding", "find_padding"]

Columns = dict[str, TableColumn]
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Padding:
    """The names of columns whose fields are ``padded`` with spaces, and of columns with ``blank`` fields."""

    padded: frozenset[str] = frozenset()
    blank: frozenset[str] = frozenset()

    def removed_from(self, columns: Columns) -> Columns:
        """Take the padding off; a blank field, which holds nothing but spaces, is missing."""
        result = dict(columns)
        for name in columns.keys() & (self.padded | self.blank):
            texts = pa.array(columns[name].cells, pa.string())
            bare = pc.utf8_trim(texts, " ")
            kept = bare if name in self.padded else texts
            kept = pc.if_else(pc.equal(bare, ""), None, kept) if name in self.blank else kept
            result[name] = TableColumn(_cells(kept), columns[name].type)
        return result


def find_padding(parts: Iterable[Columns], path: Path, notices: Notices) -> Padding:
    """Find columns whose fields all begin with a space, or are all padded on one side to one length.

    Other spaces stay: they may be a part of the value.
    """
    seen: dict[str, _Spaces] = {}
    for columns in parts:
        for name, column in columns.items():
            seen.setdefault(name, _Spaces()).see(pa.array(column.cells, pa.string()))
    padded = [name for name, spaces in seen.items() if spaces.padded]
    blank = [name for name, spaces in seen.items() if spaces.blank and spaces.present]
    if padded:
        notices.note(f"{path}: spaces around the fields are taken off in {named(padded, SHOWN, noun='column')}")
    if blank:
        notices.note(
            f"{path}: fields that hold only spaces are read as missing in {named(blank, SHOWN, noun='column')}"
        )
    return Padding(frozenset(padded), frozenset(blank))


class _Spaces:
    """What is known of the spaces in the fields of a column."""

    def __init__(self) -> None:
        self.present = self.blank = False
        self._lengths: set[int] = set()
        self._left = self._right = self._first = True

    @property
    def padded(self) -> bool:
        """Whether all fields begin with a space, or have spaces on one side alone and one length."""
        aligned = len(self._lengths) == 1 and self._left != self._right
        return self.present and (aligned or self._first)

    def see(self, texts: pa.Array) -> None:
        """Look at more fields."""
        empty = pc.equal(pc.utf8_trim(texts, " "), "")
        texts = texts.filter(pc.invert(empty))
        self.blank |= bool(pc.any(empty).as_py())
        if not len(texts):
            return
        self.present = True
        lengths = pc.min_max(pc.utf8_length(texts)).as_py()
        self._lengths |= {lengths["min"], lengths["max"]}
        self._left &= pc.all(pc.equal(texts, pc.utf8_ltrim(texts, " "))).as_py()
        self._right &= pc.all(pc.equal(texts, pc.utf8_rtrim(texts, " "))).as_py()
        self._first &= pc.all(pc.starts_with(texts, " ")).as_py()


def _cells(texts: pa.Array) -> npt.NDArray[Any]:
    return np.asarray(texts.to_numpy(zero_copy_only=False), dtype=object)
