"""Reads a table from a CSV file, whole or in parts; what the columns are is found in the whole file."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from guards.data.csv_decimal_commas import find_decimal_commas, with_points
from guards.data.csv_dialect import NUMBER, find_dialect
from guards.data.csv_padding import Padding, find_padding
from guards.data.csv_records import Cells, Records
from guards.data.index_column import without_row_numbers
from guards.data.table import Table, TableColumn, unlike_names
from guards.data.text_file import TextFile
from guards.notices import Notices
from guards.sentences import counted
from guards.types import Mistake

__all__ = ["csv_parts", "read_csv"]

Columns = dict[str, TableColumn]
Named = list[tuple[str, int]]
SHOWN = 3
MANY = 5


def read_csv(path: Path, missing: tuple[str, ...], wanted: AbstractSet[str], notices: Notices) -> Table:
    """Read a CSV file: cells are ``str``, the empty field and the strings ``missing`` are None.

    Columns whose names are ``wanted`` are never taken for row numbers. Compressed files, other delimiters, comments
    before the header and decimal commas are read, with a note.

    Raises:
        Mistake: the file is not a text, or its text is not a table.
    """
    _, parts = csv_parts(path, missing, wanted, notices, rows=None)
    return next(parts)


def csv_parts(
    path: Path, missing: tuple[str, ...], wanted: AbstractSet[str], notices: Notices, *, rows: int | None
) -> tuple[int, Iterator[Table]]:
    """Count the rows of a CSV file, and read ``rows`` rows at a time, as :func:`read_csv` reads them all.

    The file is read more than once: first for what only the whole file tells, such as whether its commas are decimal.

    Raises:
        Mistake: the file is not a text, or its text is not a table.
    """
    text = TextFile(path, notices)
    if not any(line.strip() for line in text.lines()):
        raise Mistake(f"{path}: cannot be read as a table: the file is empty")
    dialect = find_dialect(text, notices)
    records = Records(text, dialect, notices, rows=rows)
    names = records.header
    if dialect.marked:
        bare = names[0].lstrip("#")
        notices.note(f"{path}: the header begins with '#': its first name is read as {bare.strip()!r}")
        names[0] = bare
    stripped = [name.strip() for name in names]
    if stripped != names and not dialect.marked:
        notices.note(f"{path}: spaces around names of columns are taken off, such as {_first_change(names, stripped)}")
    if not records.count:
        raise Mistake(f"{path}: the file has no rows")
    named = [(name, place) for place, name in enumerate(stripped)]
    if _is_data(named, records):
        shown = ", ".join(map(repr, stripped[:SHOWN]))
        raise Mistake(
            f"{path}: the first line looks like data ({shown}), not like a header; write a header before it: a line "
            "with the names of the columns"
        )
    # Row numbers are left out first: only their column may have no name.
    named = without_row_numbers(_with_values(named, records, notices), records.column, wanted, path, notices)
    unlike_names([name for name, _ in named], path)

    def given() -> Iterator[Columns]:
        for part in records:
            yield {name: TableColumn(part[:, place].copy(), "untyped") for name, place in named}

    padding = find_padding(given(), path, notices) if records.padded else Padding()

    def unpadded() -> Iterator[Columns]:
        for part in given():
            columns = padding.removed_from(part)
            yield {name: column.with_missing(also=missing) for name, column in columns.items()}

    commas = frozenset[str]() if dialect.delimiter == "," else find_decimal_commas(unpadded(), path, notices)
    return records.count, (Table(path, with_points(part, commas)) for part in unpadded())


def _first_change(before: Sequence[str], after: Sequence[str]) -> str:
    return next(f"{old!r}" for old, new in zip(before, after, strict=True) if old != new)


def _is_data(named: Named, records: Records) -> bool:
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
        _mostly_numbers(records.column(place))
        if NUMBER.fullmatch(name)
        else bool(name) and any(cell is not None and cell.strip() == name for cell in _cells(records.column(place)))
        for name, place in named
    )


def _mostly_numbers(parts: Iterator[Cells]) -> bool:
    present = numbers = 0
    for cell in _cells(parts):
        if cell is not None:
            present += 1
            numbers += NUMBER.fullmatch(cell) is not None
    return numbers > present / 2


def _cells(parts: Iterator[Cells]) -> Iterator[str | None]:
    return (cell for part in parts for cell in part)


def _with_values(named: Named, records: Records, notices: Notices) -> Named:
    """Leave out columns without a name and without a value."""
    kept = [
        (name, place)
        for name, place in named
        if name or any(cell is not None for cell in _cells(records.column(place)))
    ]
    if len(kept) < len(named):
        left_out = counted(len(named) - len(kept), "column")
        notices.note(f"{records.path}: left out: {left_out} with neither a name nor a value")
    return kept
