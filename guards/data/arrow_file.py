"""Reads a table, with its types, from a Parquet or Feather file, or from a folder of Parquet parts."""

import json
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from guards.data.arrow_types import column_of
from guards.data.index_column import say_left_out, whole_numbers
from guards.data.table import Table, TableColumn, unlike_names
from guards.notices import Notices
from guards.sentences import counted, first_line
from guards.types import Mistake

__all__ = ["PARQUET", "SUFFIXES", "parquet_parts", "read_arrow"]

PARQUET = (".parquet", ".pq", ".parq")
SUFFIXES = (*PARQUET, ".feather", ".arrow", ".ipc")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def read_arrow(path: Path, wanted: AbstractSet[str], notices: Notices) -> Table:
    """Read one file, or all Parquet files of a folder in the order of their names; the name's suffix tells the format.

    Folders named ``column=value`` are columns, as Hive and Spark write them. An index that pandas wrote is left out,
    with a note, unless its name is ``wanted``.

    Raises:
        Mistake: the file is damaged, parts have different columns, or two columns have the same name.
    """
    with _readable(path):
        table = _folder(path, notices) if path.is_dir() else _file(path)
    return _columns(table, path, wanted, notices)


def parquet_parts(path: Path, wanted: AbstractSet[str], notices: Notices, rows: int) -> tuple[int, Iterator[Table]]:
    """Count the rows of one Parquet file, and read ``rows`` rows at a time, as :func:`read_arrow` reads them all.

    Raises:
        Mistake: as :func:`read_arrow`, also when the parts are read.
    """
    with _readable(path), pq.ParquetFile(path) as file:
        count = file.metadata.num_rows

    def parts() -> Iterator[Table]:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(rows)
            waiting: list[pa.RecordBatch] = []
            last = False
            while not last:
                with _readable(path):
                    batch = next(batches, None)
                last = batch is None
                waiting += [] if batch is None else [batch]
                # A batch ends where a row group ends, so some batches are short.
                while waiting and (last or sum(map(len, waiting)) >= rows):
                    table = pa.Table.from_batches(waiting)
                    yield _columns(table[:rows], path, wanted, notices)
                    waiting = table[rows:].to_batches()

    return count, parts()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn an error of Arrow into a sentence.

    Raises:
        Mistake: there was an error.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as broken:
        reason = first_line(broken, "damaged")
        raise Mistake(f"{path}: cannot be read as a table: {reason}") from broken


def _columns(table: pa.Table, path: Path, wanted: AbstractSet[str], notices: Notices) -> Table:
    with _readable(path):
        table.validate(full=True)  # otherwise a damaged Feather file would crash the process
    unlike_names(table.column_names, path)
    categorical = _pandas_categories(table)
    columns: dict[str, TableColumn] = {}
    for name in table.column_names:
        try:
            untyped = b"untyped" in (table.schema.field(name).metadata or {})
            columns[name] = column_of(table[name], categorical=name in categorical, untyped=untyped)
        except pa.ArrowException as unread:
            reason = first_line(unread, "damaged")
            raise Mistake(f"{path}, column {name!r}: cannot be read: {reason}") from unread
    for name in _pandas_index(table):
        if name in columns and name not in wanted:
            index = columns.pop(name).cells
            say_left_out(f"the column {name!r}", path, notices, whole=whole_numbers(index))
    return Table(path, columns)


def _file(path: Path) -> pa.Table:
    if path.suffix.lower() not in SUFFIXES[len(PARQUET) :]:
        # Not pq.read_table, which makes a column of `country=de` in the path of one file.
        with pq.ParquetFile(path) as file:
            return file.read()
    with path.open("rb") as stream:
        try:
            return pyarrow.feather.read_table(stream, memory_map=False)
        except pa.ArrowInvalid:
            stream.seek(0)
            return pa.ipc.open_stream(stream).read_all()


def _folder(path: Path, notices: Notices) -> pa.Table:
    parts = sorted(part for part in path.rglob("*") if part.is_file() and not _hidden(part.relative_to(path)))
    read = [part for part in parts if part.suffix.lower() in PARQUET]
    if not read:
        raise Mistake(f"{path}: the folder holds no file that ends in .parquet")
    others = [part for part in parts if part not in read]
    if others:
        notices.note(
            f"{path}: only files of the folder that end in .parquet are read; left out: "
            f"{counted(len(others), 'file')}, such as {others[0].name!r}"
        )
    tables = [_with_partitions(_file(part), part, path) for part in read]
    first = tables[0].schema
    for part, table in zip(read, tables, strict=True):
        if table.schema.names != first.names:
            odd = sorted(
                (Counter(table.schema.names) - Counter(first.names))
                | (Counter(first.names) - Counter(table.schema.names))
            )
            raise Mistake(
                f"{part}: the columns are not the columns of {read[0].name} "
                f"({f'only one of the two has {odd[0]!r}' if odd else 'the columns come in another order'}); "
                "write all parts with the same columns"
            )
        for field, other in zip(table.schema, first, strict=True):
            if field.type != other.type and pa.types.is_null(field.type) == pa.types.is_null(other.type):
                raise Mistake(
                    f"{part}, column {field.name!r}: the type is {field.type}, but {other.type} in {read[0].name}; "
                    "write all parts with the same types"
                )
    notices.note(f"{path}: read as one table: {counted(len(read), 'file')}, from {read[0].name} to {read[-1].name}")
    return pa.concat_tables(tables, promote_options="default")


def _hidden(part: Path) -> bool:
    """Whether a file holds no data: its name, or the name of its folder, begins with `_` or `.`, such as `_SUCCESS`."""
    return any(name.startswith((".", "_")) for name in part.parts)


def _with_partitions(table: pa.Table, part: Path, folder: Path) -> pa.Table:
    for name in part.relative_to(folder).parent.parts:
        column, equals, value = name.partition("=")
        if not equals or not column:
            raise Mistake(
                f"{part}: the folder {name!r} is not named column=value; put all parts into one folder, without "
                "folders in it"
            )
        text = None if value == NO_VALUE else unquote(value)
        # The column is marked as untyped: a folder's name has no type, and `year=2024` may mean the number.
        field = pa.field(unquote(column), pa.string(), metadata={b"untyped": b""})
        table = table.append_column(field, pa.array([text] * table.num_rows, pa.string()))
    return table


def _pandas(table: pa.Table) -> dict[str, Any]:
    try:
        found = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _pandas_index(table: pa.Table) -> list[str]:
    """Name the columns that were a DataFrame's index."""
    found = [name for name in _pandas(table).get("index_columns", []) if isinstance(name, str)]
    return [*found, *(name for name in table.column_names if name.startswith("__index_level_") and name not in found)]


def _pandas_categories(table: pa.Table) -> set[str]:
    """Name the columns that were categories in pandas, even if Parquet only keeps the numbers of the categories.

    A pandas column of Arrow's dictionary type has no metadata: its texts are stored in the order of their first rows.
    """
    columns = _pandas(table).get("columns", [])
    found = [column for column in columns if column.get("pandas_type") == "categorical" and column.get("metadata")]
    return {str(column.get("field_name")) for column in found}
