"""Reads a table from a file; the file's name tells its format."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from guards.data.arrow_file import PARQUET, SUFFIXES, parquet_parts, read_arrow
from guards.data.csv_file import csv_parts, read_csv
from guards.data.table import Table, exists
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["read_table", "table_parts"]

OTHERS = {
    ".xlsx": "an Excel workbook", ".xls": "an Excel workbook", ".ods": "a spreadsheet",
    ".json": "JSON", ".jsonl": "JSON", ".ndjson": "JSON", ".arff": "ARFF", ".orc": "ORC", ".avro": "Avro",
    ".pkl": "a Python pickle", ".pickle": "a Python pickle", ".joblib": "a Python pickle",
    ".h5": "HDF5", ".hdf5": "HDF5", ".hdf": "HDF5", ".mat": "a MATLAB file", ".db": "a database",
    ".sqlite": "a database", ".pt": "a torch file", ".pth": "a torch file",
}  # fmt: skip
"""Formats of tables that cannot be read, by the suffix of a file's name."""


def read_table(
    path: Path, *, missing: tuple[str, ...] = (), wanted: AbstractSet[str] = frozenset(), notices: Notices | None = None
) -> Table:
    """Read a table by column, with the types of the file; the strings ``missing`` also mean a missing value.

    An index of the rows is left out, unless its name is ``wanted``. The formats are Parquet (.parquet, .pq, a folder of
    parts), Feather (.feather, .arrow), and else CSV (.csv, .tsv, .txt, also .gz, .bz2, .xz, .zst and .zip).

    Raises:
        Mistake: the file is missing, or is no table in one of these formats.
    """
    told = Notices() if notices is None else notices
    if _is_arrow(path):
        table = _with_missing(read_arrow(path, wanted, told), missing)
    else:
        table = read_csv(path, missing, wanted, told)
    if not len(table):
        raise Mistake(f"{path}: the file has no rows")
    return table


def table_parts(
    path: Path, *, missing: tuple[str, ...], wanted: AbstractSet[str], notices: Notices, rows: int
) -> tuple[int, Iterator[Table]]:
    """Count the rows of a table, and read it in parts of about ``rows`` rows, as :func:`read_table` reads all of it.

    Only Parquet files and CSV files are read in parts; a folder of parts and a Feather file are one part.

    Raises:
        Mistake: as :func:`read_table`, also when the parts are read.
    """
    if not _is_arrow(path):
        return csv_parts(path, missing, wanted, notices, rows=rows)
    if path.suffix.lower() not in PARQUET or path.is_dir():
        table = read_table(path, missing=missing, wanted=wanted, notices=notices)
        return len(table), iter([table])
    count, parts = parquet_parts(path, wanted, notices, rows)
    if not count:
        raise Mistake(f"{path}: the file has no rows")
    return count, (_with_missing(part, missing) for part in parts)


def _is_arrow(path: Path) -> bool:
    """Whether Arrow reads the file or folder; else it is a CSV.

    Raises:
        Mistake: the file is missing, or in a format that is not read.
    """
    exists(path, folder=True)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        raise Mistake(
            f"{path}: the file holds a single array; save the array as .npz, with numpy.savez(path, x=..., y=...)"
        )
    if suffix in OTHERS:
        raise Mistake(f"{path}: {OTHERS[suffix]} is not read; save the table as CSV or Parquet")
    return suffix in SUFFIXES or path.is_dir()


def _with_missing(table: Table, missing: tuple[str, ...]) -> Table:
    return Table(table.path, {name: column.with_missing(also=missing) for name, column in table.columns.items()})
