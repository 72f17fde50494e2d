"""Reads rows of a fitted schema from a data file of any format."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from guards.config.config import Config
from guards.data.column_kinds import WRONG_NUMBER
from guards.data.distinct_values import Mask, Values
from guards.data.labels import indices, targets
from guards.data.name_order import folded
from guards.data.npz import read_npz, rows_from_npz
from guards.data.number_columns import numbers_of
from guards.data.table import GROUP, Table, TableColumn, as_texts, choices
from guards.data.table_file import read_table
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.notices import Notices
from guards.sentences import as_list, counted
from guards.types import Mistake, Rows

__all__ = ["check_known", "load_rows", "rows_from_table"]

FEW_CATEGORIES = 100


def load_rows(
    path: Path, config: Config, schema: InputSchema, classes: tuple[str, ...], notices: Notices | None = None
) -> Rows:
    """Read a data file for a fitted schema; ``classes`` is empty for a regression.

    Raises:
        Mistake: the file does not fit the schema.
    """
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path, label=config.reference.label, notices=notices)
        return rows_from_npz(arrays, schema, classes=classes, path=path, spec=config.input, notices=notices)
    if schema.kind != "tabular":
        raise Mistake(f"{path}: rows of kind {schema.kind} come as .npz")
    wanted = {config.reference.label, *schema.names}
    table = read_table(path, missing=config.reference.missing, wanted=wanted, notices=notices)
    return rows_from_table(table, schema, label=config.reference.label, classes=classes, notices=notices)


def rows_from_table(
    table: Table, schema: InputSchema, *, label: str | None, classes: tuple[str, ...], notices: Notices | None = None
) -> Rows:
    """Turn a table into rows; the label's column need not be there, ``group_NAME`` columns become groups.

    If ``label`` is None, no label is read.

    ``notices`` get a warning if categories are written in another way than the known categories.

    Raises:
        Mistake: a column is missing or not of its kind, or a label is not known.
    """
    columns, path, told = table.columns, table.path, Notices() if notices is None else notices
    absent = [name for name in schema.names if name not in columns]
    if absent:
        raise Mistake(*(f"{path}: no column {name!r}; {choices(name, list(columns))}" for name in absent))
    x, faults = schema.encode(
        {column.name: _encodable(column, columns[column.name], path, told) for column in schema.columns}
    )
    if faults:
        raise Mistake(f"{path}, row {faults[0].row}, column {faults[0].place[0]}: {faults[0].message}")
    groups = {
        name.removeprefix(GROUP): tuple(as_texts(column.cells))
        for name, column in columns.items()
        if name.startswith(GROUP) and name not in schema.names
    }
    y = None
    if label is not None and label in columns:
        y = indices(columns[label], classes, path) if classes else targets(columns[label], path)
    return Rows(torch.from_numpy(x), y, groups)


def check_known(rows: Rows, schema: InputSchema, path: Path, notices: Notices) -> None:
    """Refuse rows if no value of a categorical column is a known category: the column may have another type there.

    If the column has very many categories, such as names of persons, a warning takes the place of the refusal.

    Raises:
        Mistake: there is such a column.
    """
    for index, column in enumerate(schema.columns):
        if column.kind == "numeric":
            continue
        codes = rows.x[:, index]
        present = codes[~codes.isnan()]
        categories = column.categories or ()
        if len(present) and bool((present < 0).all()):
            sentence = (
                f"{path}: none of the values of column {column.name!r} is a category of the reference; its categories "
                f"are {as_list(categories)}: write the column as in the reference"
            )
            if len(categories) <= FEW_CATEGORIES:
                raise Mistake(sentence)
            notices.warn(f"{sentence}, or give the column `drop: true` in input.columns")


def _encodable(column: Column, cells: TableColumn, path: Path, notices: Notices) -> npt.NDArray[np.float64]:
    """Read a column of a file as numbers, or as the indices of its categories' names: (n,) float64."""
    place = f"{path}, column {column.name!r}"
    if cells.type == "nested":
        raise Mistake(f"{place}: the column holds lists, structures or bytes; write a single value into each row")
    if column.kind == "numeric":
        return numbers_of(cells, place, missing=column.missing, hint=WRONG_NUMBER)
    values = Values.of(cells)
    codes, faults = column.encode(values.texts.tolist())
    if faults:
        raise Mistake(f"{path}, row {values.firsts[faults[0].row]}, column {column.name}: {faults[0].message}")
    _check_writing(column, values, codes < 0, place, notices)
    return np.append(codes, np.nan)[values.codes]


def _check_writing(column: Column, values: Values, unknown: Mask, place: str, notices: Notices) -> None:
    """Warn of texts (m,) that would be categories if they were written as in the reference."""
    if not unknown.any():
        return
    known = {folded(name): name for name in column.categories or ()}
    twins = unknown & np.array([folded(str(text)) in known for text in values.texts])
    if twins.any():
        first = values.texts[np.flatnonzero(twins)[values.firsts[twins].argmin()]]
        notices.warn(
            f"{place}: categories are written in another way than in the reference in "
            f"{counted(values.count(twins), 'row')} ({values.example(twins)} for {known[folded(str(first))]!r}), and "
            "are unknown to the model: write the categories as in the reference"
        )
