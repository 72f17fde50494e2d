"""Reads an .npz file, and turns its arrays into rows of a schema."""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile

from guards.data.npz_arrays import Arrays, chosen, label_texts
from guards.data.npz_labels import npz_labels
from guards.data.npz_layout import laid_out, scaled
from guards.data.table import GROUP, Table, TableColumn, as_texts, exists
from guards.input.schema import InputSchema, InputSpec
from guards.notices import Notices
from guards.sentences import first_line
from guards.types import Mistake, Rows

__all__ = ["read_npz", "rows_from_npz", "table_of_npz"]

DAMAGED = (
    *(ValueError, OSError, EOFError, MemoryError, OverflowError, SyntaxError, struct.error),
    *(zipfile.BadZipFile, zlib.error, RuntimeError),  # RuntimeError: encrypted, or of an unknown compression
)


def read_npz(path: Path, *, label: str = "y", required: bool = False, notices: Notices | None = None) -> Arrays:
    """Read `x`, `y` and `group_NAME` of an .npz file, without unpickling; ``label`` is the name of `y` in the file.

    ``required`` says that an array of the name ``label`` must be there.

    Raises:
        Mistake: the file does not exist, has no rows, holds Python objects, or lacks the label.
    """
    exists(path)
    try:
        with path.open("rb") as stream:  # np.load would leave a damaged file open
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise Mistake(
                    f"{path}: the file holds a single array; save the array with numpy.savez(path, x=..., y=...)"
                )
            told = Notices() if notices is None else notices
            return chosen(archive, path, label=label, required=required, notices=told)
    except DAMAGED as broken:
        raise Mistake(f"{path}: cannot be read as .npz: {first_line(broken, 'damaged')}") from broken


def table_of_npz(arrays: Mapping[str, np.ndarray[Any, Any]], spec: InputSpec, path: Path) -> Table:
    """Turn a tabular `x` (n, d), which holds numbers and category indices, into a table with names of columns.

    Raises:
        Mistake: the declared columns do not fit `x`.
    """
    x = _flat(arrays["x"])
    names = _names(x, spec, path)
    declared = {column.name: (index, column) for index, column in enumerate(spec.columns)}
    columns: dict[str, TableColumn] = {}
    for at, name in enumerate(names):
        index, column = declared.get(name, (at, None))
        values = x[:, at]
        values = values if values.dtype in (np.int64, np.uint64) else values.astype(np.float64)
        if column is not None and column.declared_kind == "categorical":
            if column.categories is None:
                raise Mistake(f"input.columns.{index}: an .npz holds category indices; declare `categories`")
            categories = np.array([*column.categories, None], dtype=object)
            known = (values >= 0) & (values < len(column.categories))
            values = categories[np.where(known, values, len(column.categories)).astype(np.int64)]
        columns[name] = TableColumn(values, "text" if values.dtype == object else "number")
    return Table(path, columns)


def _flat(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Drop the last axis of rows (n, d, 1)."""
    return x[..., 0] if x.ndim == 3 and x.shape[2] == 1 else x  # noqa: PLR2004


def _names(x: np.ndarray[Any, Any], spec: InputSpec, path: Path) -> list[str]:
    """Name the columns of x (n, d) as the config does if it declares all of them, else by number."""
    given = [column.name for column in spec.columns]
    counted = [f"x{index}" for index in range(x.shape[1])] if x.ndim == 2 else []  # noqa: PLR2004
    if counted and len(given) == len(counted):
        return given
    if counted and set(given) <= set(counted):
        return counted
    raise Mistake(f"{path}: `x` has shape {list(x.shape)}; a table needs (rows, {len(given) or 'columns'})")


def rows_from_npz(
    arrays: Mapping[str, np.ndarray[Any, Any]],
    schema: InputSchema,
    *,
    classes: tuple[str, ...],
    path: Path,
    spec: InputSpec | None = None,
    notices: Notices | None = None,
) -> Rows:
    """Turn arrays into rows. Images and tensors of uint8 are divided by 255; ``classes`` is empty for a regression.

    ``spec`` is the config's input, which names the columns of `x` if the schema has fewer than `x`.

    Raises:
        Mistake: a shape or a label does not fit.
    """
    told = Notices() if notices is None else notices
    x = arrays["x"]
    if schema.kind == "tabular":
        x = _columns(_flat(x), schema, spec, path)
        encoded, faults = schema.encode(dict(zip(schema.names, x.astype(np.float64).T, strict=True)))
        if faults:
            raise Mistake(f"{path}, row {faults[0].row}, column {faults[0].place[0]}: {faults[0].message}")
        rows = torch.from_numpy(encoded)
    else:
        rows = torch.from_numpy(scaled(laid_out(x, schema.shape, path, told), schema, path, told))
    groups = {
        name.removeprefix(GROUP): _group(values, path) for name, values in arrays.items() if name.startswith(GROUP)
    }
    return Rows(rows, npz_labels(arrays.get("y"), classes, path, told), groups)


def _columns(x: np.ndarray[Any, Any], schema: InputSchema, spec: InputSpec | None, path: Path) -> np.ndarray[Any, Any]:
    """Give the columns of x (n, d) that the schema has, in its order."""
    if x.shape[1:] == schema.shape:
        return x
    try:
        names = [] if spec is None or x.ndim != 2 else _names(x, spec, path)  # noqa: PLR2004
    except Mistake:
        names = []  # the config names other columns: the comparison of shapes below says what is wrong
    if not set(schema.names) <= set(names):
        raise Mistake(
            f"{path}: a row of `x` has shape {list(x.shape[1:])}, the config's input has {list(schema.shape)}"
        )
    return x[:, [names.index(name) for name in schema.names]]


def _group(values: np.ndarray[Any, Any], path: Path) -> tuple[str | None, ...]:
    """Name the groups of the rows: texts as they are, numbers by their shortest digits, booleans True and False."""
    texts = label_texts(values, path)
    if texts is not None:
        return tuple(text or None for text in texts)
    return tuple(as_texts(values.astype(object) if values.dtype.kind == "b" else values))
