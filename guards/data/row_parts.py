"""Reads the rows of a data file in parts, without their labels, so that a large file needs little memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from guards.config.config import Config
from guards.data.npz import read_npz, rows_from_npz
from guards.data.rows import rows_from_table
from guards.data.table import Table, TableColumn, as_texts
from guards.data.table_file import table_parts
from guards.input.schema import InputSchema
from guards.notices import Notices
from guards.sentences import counted, row_numbers
from guards.types import Mistake, Rows

__all__ = ["ID", "Part", "row_parts", "unlabelled_rows"]

ID = "id"
"""The column of a table that holds the rows' ids, unless the model reads a column of this name."""
ROWS = 8192
"""About how many rows of a table are read at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Consecutive rows of a file with their ids; without a column of ids, the id is the row's number, from 0."""

    rows: Rows
    ids: tuple[str, ...]


def row_parts(
    path: Path, config: Config, schema: InputSchema, notices: Notices, *, multiple: int
) -> tuple[int, Iterator[Part]]:
    """Count the rows of a file, and read them in order; all parts but the last have a ``multiple`` of rows.

    A CSV and a Parquet file are read in parts; an .npz, a Feather file or a folder of Parquet files is read whole.

    ``notices`` are complete when the last part was read. Labels are not read: they may be missing or wrong.

    Raises:
        Mistake: the file does not fit the schema; parts raise it too.
    """
    rows = multiple * math.ceil(ROWS / multiple)
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path, label=config.reference.label, notices=notices)
        arrays.pop("y", None)
        read = rows_from_npz(arrays, schema, classes=(), path=path, spec=config.input, notices=notices)
        return len(read), _slices(read, rows)
    if schema.kind != "tabular":
        raise Mistake(f"{path}: rows of kind {schema.kind} come as .npz")
    wanted = {config.reference.label, *schema.names, ID}
    count, tables = table_parts(path, missing=config.reference.missing, wanted=wanted, notices=notices, rows=rows)
    return count, _parts(tables, schema, notices)


def unlabelled_rows(path: Path, config: Config, schema: InputSchema, notices: Notices) -> Rows:
    """Read all rows of a file without their labels: rows of a class that the model does not know have no label.

    Raises:
        Mistake: the file does not fit the schema.
    """
    parts = [part.rows for part in row_parts(path, config, schema, notices, multiple=1)[1]]
    groups = {name: tuple(chain.from_iterable(part.groups[name] for part in parts)) for name in parts[0].groups}
    return Rows(torch.cat([part.x for part in parts]), groups=groups)


def _slices(rows: Rows, size: int) -> Iterator[Part]:
    for start in range(0, len(rows), size):
        stop = min(start + size, len(rows))
        groups = {name: values[start:stop] for name, values in rows.groups.items()}
        yield Part(Rows(rows.x[start:stop], groups=groups), _numbers(start, stop - start))


def _parts(tables: Iterator[Table], schema: InputSchema, notices: Notices) -> Iterator[Part]:
    start, repeated = 0, dict[str, int]()
    for table in tables:
        told = Notices()
        try:
            rows = rows_from_table(table, schema, label=None, classes=(), notices=told)
        except Mistake as mistake:
            raise Mistake(*(f"{sentence}{_counted_from(start)}" for sentence in mistake.sentences)) from None
        _tell_once(told, repeated, notices)
        given = table.columns.get(ID) if ID not in schema.names else None
        yield Part(rows, _numbers(start, len(rows)) if given is None else _ids(given, table.path, start))
        start += len(rows)
    for place, parts in repeated.items():
        if parts > 1:
            notices.note(f"{place}: the same holds for {counted(parts - 1, 'more part')} of the file")


def _ids(column: TableColumn, path: Path, start: int) -> tuple[str, ...]:
    """Read the ids of rows from the row ``start`` of the file on.

    Raises:
        Mistake: a row has no id.
    """
    ids = as_texts(column.cells)
    absent = [start + row for row, name in enumerate(ids) if name is None]
    if absent:
        raise Mistake(
            f"{path}, {row_numbers(absent)}: the column {ID!r} has no value; write an id into every row, or leave the "
            "column out"
        )
    return tuple(name for name in ids if name is not None)


def _numbers(start: int, rows: int) -> tuple[str, ...]:
    return tuple(map(str, range(start, start + rows)))


def _counted_from(start: int) -> str:
    return f" (rows are counted from row {start} of the file)" if start else ""


def _tell_once(told: Notices, repeated: dict[str, int], notices: Notices) -> None:
    """Keep the first sentence about each place, and count the parts of the file with further ones."""
    for sentences, tell in ((told.notes, notices.note), (told.warnings, notices.warn)):
        for sentence in sentences:
            place = sentence.partition(": ")[0]
            repeated[place] = repeated.get(place, 0) + 1
            if repeated[place] == 1:
                tell(sentence)
