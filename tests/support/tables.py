"""Tables as a file would give them, and what is made of them."""

from pathlib import Path
from typing import Any

import numpy as np

from guards.data.input_columns import readings
from guards.data.table import ColumnType, Table, TableColumn
from guards.notices import Notices
from guards.schema import InputSchema, InputSpec

PATH = Path("t.csv")


def fields(*values: object) -> TableColumn:
    """Give the fields of a CSV's column, None for the empty one."""
    return typed("untyped", *values)


def typed(kind: ColumnType, *values: object, categories: tuple[str, ...] | None = None) -> TableColumn:
    """Give a column of a file with types."""
    cells = np.empty(len(values), dtype=object)
    cells[:] = values
    return TableColumn(cells, kind, categories)


def numbers(*values: float) -> TableColumn:
    """Give a column of numbers, exact if they are all integers."""
    return TableColumn(np.array(values), "number")


def table(**columns: TableColumn) -> Table:
    return Table(PATH, columns)


def spec(*columns: dict[str, Any], **keys: Any) -> InputSpec:
    return InputSpec.model_validate({"kind": "tabular", "columns": columns, **keys})


def understood(given: InputSpec, made: Table) -> tuple[InputSchema, Notices]:
    """Give the first reading of a table whose label is y: columns that are not listed are inputs."""
    first = readings(given, made, label="y")[0]
    return first.sure(), first.notices


def warnings_of(column: TableColumn, **keys: Any) -> list[str]:
    """Give the warnings about a column ``a`` alone; ``keys`` are what the config says of it."""
    columns = [{"name": "a", **keys}] if keys else []
    return understood(spec(*columns), table(a=column))[1].warnings


def notes_of(column: TableColumn, **keys: Any) -> list[str]:
    """Give the notes about a column ``a`` alone."""
    columns = [{"name": "a", **keys}] if keys else []
    return understood(spec(*columns), table(a=column))[1].notes
