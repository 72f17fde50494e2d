"""The records of a CSV file as arrays of fields, a number of rows at a time; every line must fit the header."""

import csv
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.data.csv_dialect import Dialect
from guards.data.text_file import TextFile
from guards.notices import Notices
from guards.sentences import counted
from guards.types import Mistake

__all__ = ["Cells", "Records"]

Cells = npt.NDArray[Any]
MANY = 5
ALMOST_ALL = 0.9


class Records:
    """The header of a file, and its fields in parts (n, d), which may be read more than once; an empty field is None.

    If ``rows`` is a number, the file is read anew each time, so many rows at a time. If it is None, all rows are kept
    as one part. An empty field that ends every line is dropped.
    """

    def __init__(self, file: TextFile, dialect: Dialect, notices: Notices, *, rows: int | None) -> None:
        """Read the whole file once: count its rows, and find lines that do not fit.

        Raises:
            Mistake: the text is not a table.
        """
        self._file, self._dialect, self._rows = file, dialect, rows
        self.padded = False
        """Whether a space stands before or after a delimiter or a line break."""
        self._gap = False
        """Whether blank lines stand between other lines."""
        header, parts = self._read()
        count, width, tail, kept = 0, len(header), False, []
        for part in parts:
            if count and part.shape[1] != width:
                raise Mistake(self._broken_lines())
            count, width = count + len(part), part.shape[1]
            tail |= bool((part[:, -1] != None).any())  # noqa: E711 - elementwise
            kept += [part] if rows is None else []
        if width == 1 and count and self._gap:
            notices.note(f'{self.path}: blank lines are skipped; in a table of one column write a missing value as ""')
        ends = f"{self.path}: every line ends with a delimiter; the empty field after it is left out"
        if width == len(header) + 1 and not tail:
            notices.note(ends)
            width -= 1
        elif width == len(header) - 1 and not header[-1].strip():
            notices.note(ends.replace("every line", "the header"))
            header = header[:-1]
        elif width != len(header):
            raise Mistake(self._broken_lines())
        self.header, self.count, self._width = header, count, width
        self._kept = [part[:, :width] for part in kept] if rows is None else None

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def __iter__(self) -> Iterator[Cells]:
        """Read the parts in order."""
        return iter(self._kept) if self._kept is not None else (part[:, : self._width] for part in self._read()[1])

    def column(self, place: int) -> Iterator[Cells]:
        """Read the fields (n,) of one column, part by part."""
        return (part[:, place] for part in self)

    def _read(self) -> tuple[list[str], Iterator[Cells]]:
        rows = self._lines_with_fields()
        try:
            header = next(rows, None)
        except csv.Error:
            raise Mistake(self._broken_lines()) from None
        if header is None:
            raise Mistake(f"{self.path}: the file has no rows")
        return header, self._parts(header, rows)

    def _parts(self, header: list[str], rows: Iterator[list[str]]) -> Iterator[Cells]:
        while True:
            try:
                part = list(islice(rows, self._rows))
            except csv.Error:
                raise Mistake(self._broken_lines()) from None
            if not part:
                return
            widths = set(map(len, part))
            if len(widths) > 1:
                raise Mistake(self._broken_lines())
            if header in part and len(header) > 1:
                raise Mistake(self._repeated_header(header))
            fields = np.array(list(chain.from_iterable(part)), dtype=object).reshape(len(part), widths.pop())
            fields[fields == ""] = None
            yield fields

    def _lines_with_fields(self) -> Iterator[list[str]]:
        blank = begun = False
        for row in self._dialect.reader(self._watched()):
            if _blank(row):
                blank = begun and not row
            else:
                self._gap |= blank
                blank, begun = False, True
                yield row

    def _watched(self) -> Iterator[str]:
        before, after = f" {self._dialect.delimiter}", f"{self._dialect.delimiter} "
        for line in self._file.lines():
            if not self.padded:
                ends = line.startswith(" ") or line.endswith((" ", " \n", " \r", " \r\n"))
                self.padded = ends or before in line or after in line
            yield line

    def _repeated_header(self, header: list[str]) -> str:
        """Say which line repeats the header; the caller knows that there is such a line."""
        reader = self._dialect.reader(self._file.lines())
        lines = [reader.line_num + self._dialect.skipped for row in reader if row == header]
        return (
            f"{self.path}, line {lines[1]}: the line repeats the header, as if two files were joined; delete the line"
        )

    def _broken_lines(self) -> str:
        """Say which line is wrong; the caller knows that there is such a line."""
        reader, skipped = self._dialect.reader(self._file.lines()), self._dialect.skipped
        header: list[str] = []
        wrong: list[tuple[int, int]] = []
        rows, line = 0, 1
        while True:
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                return f"{self.path}, line {line + skipped}: cannot be read as a table: {_advice(str(error))}"
            if not header:
                header = [] if _blank(row) else row
            elif not _blank(row):
                rows += 1
                wrong += [(line + skipped, len(row))] if len(row) != len(header) else []
            line = reader.line_num + 1
        first, width = wrong[0]
        told = f"{counted(width, 'field')}, but the header names {counted(len(header), 'column')}"
        if len(header) > 1 and len(wrong) == rows and {count for _, count in wrong} == {len(header) + 1}:
            return (
                f"{self.path}: cannot be read as a table: every row has {told}; if the first field of a row is its "
                "number or its name, write a name for it in the header, or write the file without it"
            )
        late_header = rows >= MANY and len(wrong) > ALMOST_ALL * rows
        more = f" (and {counted(len(wrong) - 1, 'more line')})" if len(wrong) > 1 else ""
        delimiter = self._dialect.delimiter
        advice = (
            "if the names of the columns stand in a later line than the first, delete the lines before them"
            if late_header
            else f"a field that holds {delimiter!r} must be in quotes"
            if width > len(header)
            else f"a field without a value needs its {delimiter!r} too"
        )
        return f"{self.path}, line {first}{more}: cannot be read as a table: the line has {told}; {advice}"


def _blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and row[0].isspace())


def _advice(error: str) -> str:
    if "unexpected end" in error or "field limit" in error:
        return "a quote that opens a field here is never closed; close the quote, or write a quote in a field twice"
    return "a quoted field is followed by something other than a delimiter; write a quote inside a quoted field twice"
