"""Reads decimal commas as points, in files whose fields are not separated by commas."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from guards.data.table import TableColumn
from guards.notices import Notices
from guards.sentences import named

__all__ = ["with_points"]

SHOWN = 5

COMMA = r"^[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][-+]?\d+)?$"
NOT_THOUSANDS = r"^[-+]?(0|\d{4,}|\d{1,3}(\.\d{3})+),|,(\d{1,2}|\d{4,})([eE][-+]?\d+)?$"
THOUSANDS = r"^[-+]?\d{1,3}(\.\d{3})+$"


def with_points(columns: dict[str, TableColumn], path: Path, notices: Notices) -> dict[str, TableColumn]:
    """Read the decimal commas of the file's numbers as points, if the file surely has decimal commas.

    The file surely has decimal commas if, in a column of such numbers alone, a comma cannot separate thousands.
    """
    texts = {name: pa.array(column.cells, pa.string()).drop_null() for name, column in columns.items()}
    numbers = {name: cells for name, cells in texts.items() if len(cells) and _all(cells, COMMA)}
    commas = [name for name, cells in numbers.items() if pc.any(pc.match_substring(cells, ",")).as_py()]
    if not any(pc.any(pc.match_substring_regex(numbers[name], NOT_THOUSANDS)).as_py() for name in commas):
        return columns
    result = dict(columns)
    for name in commas:
        given = pa.array(columns[name].cells, pa.string())
        plain = pc.replace_substring(pc.replace_substring(given, ".", ""), ",", ".")
        result[name] = TableColumn(plain.to_numpy(zero_copy_only=False), columns[name].type)
    notices.note(f"{path}: decimal commas are read as points in {named(commas, SHOWN, noun='column')}")
    for name, cells in numbers.items():
        if name not in commas and _all(cells, THOUSANDS):
            notices.warn(
                f"{path}, column {name!r}: values such as {cells[0].as_py()!r} hold a point beside columns "
                "with decimal commas; if the point separates thousands, write the numbers without it"
            )
    return result


def _all(cells: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern)).as_py())
