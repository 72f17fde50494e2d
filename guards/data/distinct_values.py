"""The different values of a column, as texts: checks of a column look at each value once, and not at every cell."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from guards.data.table import TableColumn, as_texts
from guards.input.spelling import NUMERAL

__all__ = ["Mask", "Values", "matching"]

Mask = npt.NDArray[np.bool_]
LONGEST = 40


@dataclass(frozen=True, eq=False)
class Values:
    """The m different values of a column of n rows, in the order of their first rows.

    ``texts`` (m,) are strings, ``counts`` (m,) how many rows have each value, ``firsts`` (m,) its first row, and
    ``codes`` (n,) the place of each row's value in ``texts``, -1 if the row has no value.
    """

    texts: npt.NDArray[np.object_]
    counts: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, column: TableColumn) -> "Values":
        """Find the different values, once for each column; a number is written with its shortest digits."""
        if column not in FOUND:
            FOUND[column] = cls._find(column)
        return FOUND[column]

    @classmethod
    def _find(cls, column: TableColumn) -> "Values":
        codes, different = pd.factorize(column.cells)
        plain = column.cells.dtype == object and column.type in ("untyped", "text", "category", "date")
        texts = np.asarray(different if plain else as_texts(np.asarray(different)), dtype=object)
        firsts = np.zeros(len(texts), dtype=np.int64)
        present = np.flatnonzero(codes >= 0)[::-1]
        firsts[codes[present]] = present
        return cls(texts, np.bincount(codes[codes >= 0], minlength=len(texts)), firsts, codes.astype(np.int64))

    def without(self, missing: tuple[str, ...]) -> "Values":
        """Leave out texts that mean missing."""
        if not missing:
            return self
        kept = ~self.among(missing)
        places = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
        return Values(self.texts[kept], self.counts[kept], self.firsts[kept], places[self.codes])

    @cached_property
    def numeral(self) -> Mask:
        """Which texts (m,) are decimal numbers, perhaps with spaces around them; 007, inf, 0x1F and 1_000 are none."""
        return matching(self.texts, rf"^\s*{NUMERAL}\s*$")

    @cached_property
    def numbers(self) -> npt.NDArray[np.float64]:
        """The texts (m,) as numbers; NaN for a text that is no number."""
        numbers = np.full(len(self.texts), np.nan)
        numbers[self.numeral] = self.texts[self.numeral].astype(np.float64)
        return numbers

    def among(self, texts: Iterable[str]) -> Mask:
        """Tell which texts (m,) of this column are among ``texts``."""
        wanted = set(texts)
        return np.array(
            [text in wanted for text in self.texts] if wanted else [False] * len(self.texts), dtype=np.bool_
        )

    def example(self, which: Mask) -> str:
        """Show the first row that has one of the texts marked by ``which`` (m,)."""
        place = int(np.flatnonzero(which)[self.firsts[which].argmin()])
        text = str(self.texts[place])
        shown = repr(text) if len(text) <= LONGEST else f"{text[:LONGEST]!r}..."
        return f"row {self.firsts[place]}: {shown}"

    def count(self, which: Mask) -> int:
        """Count the rows that have one of the texts marked by ``which`` (m,)."""
        return int(self.counts[which].sum())


FOUND: WeakKeyDictionary[TableColumn, Values] = WeakKeyDictionary()


def matching(texts: npt.NDArray[np.object_], pattern: str) -> Mask:
    """Tell which texts (m,) match a pattern of RE2; capitals do not matter."""
    found = pc.match_substring_regex(pa.array(texts, type=pa.large_string()), pattern, ignore_case=True)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
