"""Reads a table from a CSV file, and refuses the file unless every line has as many fields as the header."""

import csv
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.data.csv_decimal_commas import with_points
from guards.data.csv_dialect import NUMBER, Dialect, find_dialect
from guards.data.csv_padding import without_padding
from guards.data.index_column import without_row_numbers
from guards.data.table import Table, TableColumn, unlike_names
from guards.data.text_file import read_text
from guards.notices import Notices
from guards.sentences import counted
from guards.types import Mistake

__all__ = ["read_csv"]

Cells = npt.NDArray[Any]
SHOWN = 3
MANY = 5
ALMOST_ALL = 0.9


def read_csv(path: Path, missing: tuple[str, ...], wanted: AbstractSet[str], notices: Notices) -> Table:
    """Read a CSV file: cells are ``str``, the empty field and the strings ``missing`` are None.

    Columns whose names are ``wanted`` are never taken for row numbers. Compressed files, other delimiters, comments
    before the header and decimal commas are read, with a note.

    Raises:
        Mistake: the file is not a text, or its text is not a table.
    """
    text = read_text(path, notices)
    if not text.strip():
        raise Mistake(f"{path}: cannot be read as a table: the file is empty")
    dialect = find_dialect(text, path, notices)
    names, cells = _fields(text, dialect, path, notices)
    if dialect.marked:
        bare = names[0].lstrip("#")
        notices.note(f"{path}: the header begins with '#': its first name is read as {bare.strip()!r}")
        names[0] = bare
    stripped = [name.strip() for name in names]
    if stripped != names and not dialect.marked:
        notices.note(f"{path}: spaces around names of columns are taken off, such as {_first_change(names, stripped)}")
    if not len(cells):
        raise Mistake(f"{path}: the file has no rows")
    named = list(zip(stripped, cells.T, strict=True))
    if _is_data(named):
        shown = ", ".join(map(repr, stripped[:SHOWN]))
        raise Mistake(
            f"{path}: the first line looks like data ({shown}), not like a header; write a header before it: a line "
            "with the names of the columns"
        )
    # Row numbers are left out first: only their column may have no name.
    named = without_row_numbers(_with_values(named, path, notices), wanted, path, notices)
    unlike_names([name for name, _ in named], path)
    padded = any(f" {end}" in text or f"{end} " in text for end in (dialect.delimiter, "\n", "\r"))
    columns = {name: TableColumn(each.copy(), "untyped") for name, each in named}
    columns = without_padding(columns, path, notices) if padded else columns
    columns = {name: column.with_missing(also=missing) for name, column in columns.items()}
    return Table(path, columns if dialect.delimiter == "," else with_points(columns, path, notices))


def _first_change(before: Sequence[str], after: Sequence[str]) -> str:
    return next(f"{old!r}" for old, new in zip(before, after, strict=True) if old != new)


def _fields(text: str, dialect: Dialect, path: Path, notices: Notices) -> tuple[list[str], Cells]:
    """Give the header and the fields (n, d); an empty field is None. An empty field that ends every line is dropped."""
    try:
        records = [row for row in dialect.reader(text) if not _blank(row)]
    except csv.Error:
        raise Mistake(_broken_lines(text, dialect, path)) from None
    if not records:
        raise Mistake(f"{path}: the file has no rows")
    header, *rows = records
    widths = set(map(len, rows))
    if widths == {1} and re.search(r"\S\s*?(\n\n|\r\r|\r\n\r\n)\s*\S", text):
        notices.note(f'{path}: blank lines are skipped; in a table of one column write a missing value as ""')
    if len(widths) > 1:
        raise Mistake(_broken_lines(text, dialect, path))
    if header in rows and len(header) > 1:
        raise Mistake(_repeated_header(header, text, dialect, path))
    width = widths.pop() if widths else len(header)
    fields = np.array(list(chain.from_iterable(rows)), dtype=object).reshape(len(rows), width)
    fields[fields == ""] = None
    ends = f"{path}: every line ends with a delimiter; the empty field after it is left out"
    if width == len(header) + 1 and (fields[:, -1] == None).all():  # noqa: E711 - elementwise
        notices.note(ends)
        return header, fields[:, :-1]
    if width == len(header) - 1 and not header[-1].strip():
        notices.note(ends.replace("every line", "the header"))
        return header[:-1], fields
    if width != len(header):
        raise Mistake(_broken_lines(text, dialect, path))
    return header, fields


def _repeated_header(header: list[str], text: str, dialect: Dialect, path: Path) -> str:
    """Say which line repeats the header; the caller knows that there is such a line."""
    reader = dialect.reader(text)
    lines = [reader.line_num + dialect.skipped for row in reader if row == header]
    return f"{path}, line {lines[1]}: the line repeats the header, as if two files were joined; delete the line"


def _blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and row[0].isspace())


def _broken_lines(text: str, dialect: Dialect, path: Path) -> str:
    """Say which line is wrong; the caller knows that there is such a line."""
    reader = dialect.reader(text)
    header: list[str] = []
    wrong: list[tuple[int, int]] = []
    rows, line = 0, 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            return f"{path}, line {line + dialect.skipped}: cannot be read as a table: {_advice(str(error))}"
        if not header:
            header = [] if _blank(row) else row
        elif not _blank(row):
            rows += 1
            wrong += [(line + dialect.skipped, len(row))] if len(row) != len(header) else []
        line = reader.line_num + 1
    first, width = wrong[0]
    told = f"{counted(width, 'field')}, but the header names {counted(len(header), 'column')}"
    if len(header) > 1 and len(wrong) == rows and {count for _, count in wrong} == {len(header) + 1}:
        return (
            f"{path}: cannot be read as a table: every row has {told}; if the first field of a row is its number or "
            "its name, write a name for it in the header, or write the file without it"
        )
    late_header = rows >= MANY and len(wrong) > ALMOST_ALL * rows
    more = f" (and {counted(len(wrong) - 1, 'more line')})" if len(wrong) > 1 else ""
    advice = (
        "if the names of the columns stand in a later line than the first, delete the lines before them"
        if late_header
        else f"a field that holds {dialect.delimiter!r} must be in quotes"
        if width > len(header)
        else f"a field without a value needs its {dialect.delimiter!r} too"
    )
    return f"{path}, line {first}{more}: cannot be read as a table: the line has {told}; {advice}"


def _advice(error: str) -> str:
    if "unexpected end" in error or "field limit" in error:
        return "a quote that opens a field here is never closed; close the quote, or write a quote in a field twice"
    return "a quoted field is followed by something other than a delimiter; write a quote inside a quoted field twice"


def _is_data(named: list[tuple[str, Cells]]) -> bool:
    """Whether the first line is a row of data: it has numbers above numbers, and texts above equal texts."""
    names = [name for name, _ in named]
    numbers = [float(name) for name in names if NUMBER.fullmatch(name)]
    if not numbers:
        return False
    ordered = len(numbers) == len(names) and numbers == sorted(set(numbers))
    # Names may be numbers in order: counts, years, or wavelengths if they are so many that chance does not order a row.
    if ordered and (len(names) >= MANY or all(name.isdecimal() for name in names)):
        return False
    return all(
        _mostly_numbers(cells)
        if NUMBER.fullmatch(name)
        else bool(name) and any(cell is not None and cell.strip() == name for cell in cells)
        for name, cells in named
    )


def _mostly_numbers(cells: Cells) -> bool:
    present = [cell for cell in cells if cell is not None]
    return sum(NUMBER.fullmatch(cell) is not None for cell in present) > len(present) / 2


def _with_values(named: list[tuple[str, Cells]], path: Path, notices: Notices) -> list[tuple[str, Cells]]:
    """Leave out columns without a name and without a value."""
    kept = [(name, cells) for name, cells in named if name or (cells != None).any()]  # noqa: E711 - elementwise
    if len(kept) < len(named):
        notices.note(f"{path}: left out: {counted(len(named) - len(kept), 'column')} with neither a name nor a value")
    return kept
