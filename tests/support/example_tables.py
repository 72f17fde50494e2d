"""Makes columns and tables as they are read from files, and the schema and notices that follow from them."""

from pathlib import Path
from typing import Any

import numpy as np

from guards.data.input_columns import readings
from guards.data.table import ColumnType, Table, TableColumn
from guards.input.schema import InputSchema, InputSpec
from guards.notices import Notices

PATH = Path("t.csv")


def fields(*values: object) -> TableColumn:
    """Make a column of a CSV file from its fields; None is an empty field."""
    return typed("untyped", *values)


def typed(kind: ColumnType, *values: object, categories: tuple[str, ...] | None = None) -> TableColumn:
    """Make a column of a file that has types."""
    cells = np.empty(len(values), dtype=object)
    cells[:] = values
    return TableColumn(cells, kind, categories)


def numbers(*values: float) -> TableColumn:
    """Make a column of numbers, which are exact if all are integers."""
    return TableColumn(np.array(values), "number")


def table(**columns: TableColumn) -> Table:
    return Table(PATH, columns)


def spec(*columns: dict[str, Any], **keys: Any) -> InputSpec:
    return InputSpec.model_validate({"kind": "tabular", "columns": columns, **keys})


def understood(given: InputSpec, made: Table) -> tuple[InputSchema, Notices]:
    """Give the first reading of a table with the label y: columns that the config does not list are inputs."""
    first = readings(given, made, label="y")[0]
    return first.sure(), first.notices


def warnings_of(column: TableColumn, **keys: Any) -> list[str]:
    """Give the warnings about a column ``a``, the only column; ``keys`` are the config's keys of the column."""
    columns = [{"name": "a", **keys}] if keys else []
    return understood(spec(*columns), table(a=column))[1].warnings


def notes_of(column: TableColumn, **keys: Any) -> list[str]:
    """Give the notes about a column ``a``, the only column; ``keys`` are the config's keys of the column."""
    columns = [{"name": "a", **keys}] if keys else []
    return understood(spec(*columns), table(a=column))[1].notes
