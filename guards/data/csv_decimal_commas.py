"""Reads decimal commas as points, in files whose fields are not separated by commas."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from guards.data.table import TableColumn
from guards.notices import Notices
from guards.sentences import named

__all__ = ["find_decimal_commas", "with_points"]

Columns = dict[str, TableColumn]
SHOWN = 5

COMMA = r"^[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][-+]?\d+)?$"
NOT_THOUSANDS = r"^[-+]?(0|\d{4,}|\d{1,3}(\.\d{3})+),|,(\d{1,2}|\d{4,})([eE][-+]?\d+)?$"
THOUSANDS = r"^[-+]?\d{1,3}(\.\d{3})+$"


def find_decimal_commas(parts: Iterable[Columns], path: Path, notices: Notices) -> frozenset[str]:
    """Name the columns whose commas are decimal commas; no column if the file does not surely have decimal commas.

    The file surely has decimal commas if, in a column of such numbers alone, a comma cannot separate thousands.
    """
    seen: dict[str, _Numbers] = {}
    for columns in parts:
        for name, column in columns.items():
            seen.setdefault(name, _Numbers()).see(pa.array(column.cells, pa.string()).drop_null())
    numbers = {name: each for name, each in seen.items() if each.example is not None and each.plain}
    commas = [name for name, each in numbers.items() if each.commas]
    if not any(numbers[name].decimal for name in commas):
        return frozenset()
    notices.note(f"{path}: decimal commas are read as points in {named(commas, SHOWN, noun='column')}")
    for name, each in numbers.items():
        if name not in commas and each.thousands:
            notices.warn(
                f"{path}, column {name!r}: values such as {each.example!r} hold a point beside columns "
                "with decimal commas; if the point separates thousands, write the numbers without it"
            )
    return frozenset(commas)


def with_points(columns: Columns, commas: frozenset[str]) -> Columns:
    """Read the decimal commas of the columns ``commas`` as points."""
    result = dict(columns)
    for name in columns.keys() & commas:
        given = pa.array(columns[name].cells, pa.string())
        plain = pc.replace_substring(pc.replace_substring(given, ".", ""), ",", ".")
        result[name] = TableColumn(plain.to_numpy(zero_copy_only=False), columns[name].type)
    return result


class _Numbers:
    """What is known of the numbers in a column of texts."""

    def __init__(self) -> None:
        self.example: str | None = None
        """The first text."""
        self.plain = self.thousands = True
        """Whether all texts are numbers that may have a decimal comma, and whether all have points for thousands."""
        self.commas = self.decimal = False
        """Whether there is a comma, and whether a comma is surely a decimal comma."""

    def see(self, texts: pa.Array) -> None:
        """Look at more texts."""
        if not len(texts):
            return
        self.example = texts[0].as_py() if self.example is None else self.example
        self.plain = self.plain and _all(texts, COMMA)
        if self.plain:
            self.thousands = self.thousands and _all(texts, THOUSANDS)
            self.commas |= pc.any(pc.match_substring(texts, ",")).as_py()
            self.decimal |= pc.any(pc.match_substring_regex(texts, NOT_THOUSANDS)).as_py()


def _all(cells: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern)).as_py())
