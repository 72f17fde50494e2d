"""The file into which answers are written: Parquet or CSV; the file appears under its name when it is complete."""

import json
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from guards.types import Mistake

__all__ = ["AnswerFile"]

SUFFIXES = (".parquet", ".csv", ".csv.gz")


class AnswerFile:
    """Writes tables one after the other; a file that is already there is replaced once all tables are written.

    In a CSV, a list is written as JSON, such as ``["ant", "bee"]``, and a missing value as an empty field.
    """

    def __init__(self, path: Path) -> None:
        """Choose the format by the name's suffix, and see whether the folder can be written to.

        Raises:
            Mistake: the suffix is another one, or the folder cannot be written to.
        """
        self._path = path
        self._suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
        if not self._suffix:
            raise Mistake(f"--out {path}: the name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
        if path.is_dir():
            raise Mistake(f"--out {path}: a folder has this name; choose another name")
        self._partial = path.with_name(f".{path.name}.partial")
        self._sink: Any = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        """Create the file under a name that begins with a dot.

        Raises:
            Mistake: the file cannot be written.
        """
        try:
            self._sink = pa.OSFile(str(self._partial), "wb")
        except OSError as failure:
            raise self._unwritten(failure) from None
        if self._suffix == ".csv.gz":
            self._sink = pa.CompressedOutputStream(self._sink, "gzip")
        return self

    def write(self, table: pa.Table) -> None:
        """Write more rows.

        Raises:
            Mistake: the file cannot be written.
        """
        table = table if self._suffix == ".parquet" else _flat(table)
        try:
            if self._writer is None:
                kind = pq.ParquetWriter if self._suffix == ".parquet" else pyarrow.csv.CSVWriter
                self._writer = kind(self._sink, table.schema)
            self._writer.write_table(table)
        except OSError as failure:
            raise self._unwritten(failure) from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Give the complete file its name; after an error, remove what was written.

        Raises:
            Mistake: the file cannot be written.
        """
        try:
            for part in (self._writer, self._sink):
                if part is not None:
                    part.close()
            if error is None:
                self._partial.replace(self._path)
        except OSError as failure:
            if error is None:
                raise self._unwritten(failure) from None
        finally:
            self._partial.unlink(missing_ok=True)

    def _unwritten(self, failure: OSError) -> Mistake:
        return Mistake(f"--out {self._path}: cannot be written ({failure.strerror or failure})")


def _flat(table: pa.Table) -> pa.Table:
    """Write lists as JSON, since a CSV has no lists."""
    for place, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [
                None if names is None else json.dumps(names, ensure_ascii=False) for names in table[place].to_pylist()
            ]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table
