"""Reads a table from a file; the file's name tells its format."""

from collections.abc import Set as AbstractSet
from pathlib import Path

from guards.data.arrow_file import SUFFIXES, read_arrow
from guards.data.csv_file import read_csv
from guards.data.table import Table, exists
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["read_table"]

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
    exists(path, folder=True)
    told = Notices() if notices is None else notices
    suffix = path.suffix.lower()
    if suffix == ".npy":
        raise Mistake(
            f"{path}: the file holds a single array; save the array as .npz, with numpy.savez(path, x=..., y=...)"
        )
    if suffix in OTHERS:
        raise Mistake(f"{path}: {OTHERS[suffix]} is not read; save the table as CSV or Parquet")
    if suffix in SUFFIXES or path.is_dir():
        table = read_arrow(path, wanted, told)
        columns = {name: column.with_missing(also=missing) for name, column in table.columns.items()}
        table = Table(path, columns)
    else:
        table = read_csv(path, missing, wanted, told)
    if not len(table):
        raise Mistake(f"{path}: the file has no rows")
    return table
