"""Finds from the first lines of a CSV file how its fields are separated, and which line is the header."""

import csv
import io
import re
from _csv import Reader  # the type of csv.reader's result
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from guards.data.text_file import TextFile
from guards.notices import Notices
from guards.sentences import counted
from guards.types import Mistake

__all__ = ["NUMBER", "Dialect", "find_dialect"]

NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
OTHERS = ("::", "\x01", "\x1f", "^", "~", "\N{BROKEN BAR}", "\N{SECTION SIGN}")
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
SAMPLE = 1 << 16
LONGEST = 1 << 23
LINES = 20
RECORDS = 100


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to read a file: ``skipped`` lines precede the header; ``marked`` says that the header begins with ``#``."""

    delimiter: str
    spaced: bool
    skipped: int
    marked: bool

    def reader(self, lines: Iterable[str]) -> Reader:
        """Read the records of a file's lines, from the header on."""
        rest = islice(lines, self.skipped, None)
        return csv.reader(rest, delimiter=self.delimiter, skipinitialspace=self.spaced, strict=True)


def find_dialect(file: TextFile, notices: Notices) -> Dialect:
    """Find how the fields are separated, and skip comments before the header; a notice says what is not plain CSV.

    Raises:
        Mistake: the fields are separated by spaces.
    """
    path = file.path
    sample, lines = _sample(file.beginning(LONGEST))
    told = re.fullmatch(r'"?sep=(.)"?\s*', lines[0]) if lines else None  # Excel writes this line
    if told:
        return Dialect(told[1], _spaced(sample, told[1]), skipped=1, marked=False)
    comments = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    usual = "\t" if {".tsv", ".tab"} & {suffix.lower() for suffix in path.suffixes} else ","
    widths = {delimiter: _width("".join(lines[comments:]), delimiter) for delimiter in NAMES}
    delimiter = usual
    if widths[usual] < 2:  # noqa: PLR2004 - one column
        delimiter = max(NAMES, key=lambda each: (widths[each], each == usual))
        delimiter = delimiter if widths[delimiter] > 1 else usual
    if delimiter != usual:
        notices.note(f"{path}: the fields are read as separated by {NAMES[delimiter]}, not by {NAMES[usual]}")
    elif widths[usual] == 1 and _by_spaces(lines[comments:]):
        raise Mistake(f"{path}: the fields seem to be separated by spaces; separate them by commas")
    elif widths[usual] == 1 and (mark := _other_delimiter(lines[comments:])):
        raise Mistake(f"{path}: the fields seem to be separated by {mark!r}; separate them by commas")
    skipped = _skipped(lines, comments, delimiter)
    if skipped:
        notices.note(f"{path}: skipped before the header: {counted(skipped, 'line')} of comments")
    spaced = _spaced(sample, delimiter)
    if spaced:
        notices.note(f"{path}: spaces after the delimiters are skipped, since quoted fields follow such spaces")
    return Dialect(delimiter, spaced, skipped, marked=skipped < comments)


def _sample(text: str) -> tuple[str, list[str]]:
    """Give a sample of the first whole lines; in a wide table these are longer than the usual sample."""
    stream = io.StringIO(text, newline="")
    lines = list(islice(stream, LINES))
    while stream.tell() < SAMPLE and (line := stream.readline()):
        lines.append(line)
    return "".join(lines), lines


def _width(sample: str, delimiter: str) -> int:
    """Count the columns if the first records all have the same number of columns; else give 0."""
    try:
        # The reader is not strict, and the last of many records does not count: the sample may end in a quoted field.
        records = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return 0
    records = (records[:-1] if len(records) > LINES else records)[:RECORDS]
    header, widths = len(records[0]) if records else 0, {len(row) for row in records[1:]}
    if len(widths) > 1 or any(abs(width - header) > 1 for width in widths):
        return 0
    return header


def _spaced(sample: str, delimiter: str) -> bool:
    """Whether quoted fields follow a space, so that the quote would be read as a part of the field."""
    if f"{delimiter} " not in sample:
        return False
    try:
        rows = list(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter))
    except csv.Error:
        return False
    return any(cell.startswith(" ") and cell.lstrip(" ").startswith('"') for row in rows for cell in row)


def _by_spaces(lines: list[str]) -> bool:
    counts = {len(line.split()) for line in lines[:RECORDS] if line.strip()}
    return len(counts) == 1 and counts != {1} and len(lines) > 1 and not any('"' in line for line in lines)


def _other_delimiter(lines: list[str]) -> str | None:
    """Find an unusual delimiter, such as Hive's, that comes equally often in all lines; None if there is none."""
    lines = [line for line in lines[:RECORDS] if line.strip()]
    for mark in OTHERS:
        counts = {line.count(mark) for line in lines}
        if len(lines) > 1 and len(counts) == 1 and counts != {0}:
            return mark
    return None


def _skipped(lines: list[str], comments: int, delimiter: str) -> int:
    """Count the lines before the header: the last line that begins with ``#`` may be the header itself."""
    rest = list(csv.reader(lines[comments : comments + RECORDS], delimiter=delimiter))
    rest = [row for row in rest if row]
    if not comments or not rest:
        return comments
    last = next(csv.reader([lines[comments - 1]], delimiter=delimiter))
    named = any(
        not NUMBER.fullmatch(rest[0][column])
        and all(NUMBER.fullmatch(row[column]) for row in rest[1:] if len(row) > column)
        for column in range(len(rest[0]))
        if rest[1:]
    )
    return comments - (len(last) == len(rest[0]) and not named)
