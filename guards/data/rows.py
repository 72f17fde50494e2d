"""From a data file of any kind to rows in the shape of a fitted schema."""

from pathlib import Path
from typing import Any

import torch

from guards.columns import Column
from guards.config import Config
from guards.data.files import read_table
from guards.data.kinds import numbers_of
from guards.data.labels import indices, targets
from guards.data.npz import read_npz, rows_from_npz
from guards.data.table import GROUP, Table, TableColumn, as_texts
from guards.schema import InputSchema
from guards.types import Mistake, Rows

__all__ = ["load_rows", "rows_from_table"]


def load_rows(path: Path, config: Config, schema: InputSchema, classes: tuple[str, ...]) -> Rows:
    """Read a data file for a fitted schema; ``classes`` is empty for a regression.

    Raises:
        Mistake: it does not fit.
    """
    if path.suffix == ".npz":
        return rows_from_npz(read_npz(path), schema, classes=classes, path=path)
    if schema.kind != "tabular":
        raise Mistake(f"{path}: rows of kind {schema.kind} come as .npz")
    table = read_table(path, missing=config.reference.missing)
    return rows_from_table(table, schema, label=config.reference.label, classes=classes)


def rows_from_table(table: Table, schema: InputSchema, *, label: str, classes: tuple[str, ...]) -> Rows:
    """Turn a table into rows; the label's column need not be there, ``group_NAME`` columns become groups.

    Raises:
        Mistake: a column is missing or not of its kind, or a label is not known.
    """
    columns, path = table.columns, table.path
    absent = [name for name in schema.names if name not in columns]
    if absent:
        raise Mistake(f"{path}: no column {absent[0]!r}; there are {sorted(columns)}")
    encodable: dict[str, Any] = {
        column.name: numbers_of(column.name, columns[column.name])
        if column.kind == "numeric"
        else _categories(column, columns[column.name], path)
        for column in schema.columns
    }
    x, faults = schema.encode(encodable)
    if faults:
        raise Mistake(f"{path}, row {faults[0].row}, column {faults[0].place[0]}: {faults[0].message}")
    groups = {
        name.removeprefix(GROUP): tuple(as_texts(column.cells))
        for name, column in columns.items()
        if name.startswith(GROUP)
    }
    y = None
    if label in columns:
        y = indices(columns[label], classes, path) if classes else targets(columns[label], path)
    return Rows(torch.from_numpy(x), y, groups)


def _categories(column: Column, values: TableColumn, path: Path) -> list[str | None]:
    """Read a column's categories by name: a number or a boolean is the category that is written so."""
    texts = as_texts(values.cells)
    named: dict[object, str | None] = {}
    for row, (value, text) in enumerate(zip(values.cells.tolist(), texts, strict=True)):
        if text is None or isinstance(value, str):
            continue
        try:
            if value not in named:
                named[value] = column.category_of(value)
        except ValueError as two:
            raise Mistake(f"{path}, row {row}, column {column.name}: {two}") from None
        texts[row] = named[value] or text
    return texts
