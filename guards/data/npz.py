"""From .npz arrays to rows."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile

from guards.data.labels import class_indices, indices
from guards.data.table import GROUP, Table, TableColumn, exists
from guards.schema import InputSchema, InputSpec
from guards.types import Mistake, Rows

__all__ = ["read_npz", "rows_from_npz", "table_of_npz"]


def read_npz(path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """Read the arrays of an .npz file, without unpickling.

    Raises:
        Mistake: no such file, no `x` in it, or it holds Python objects.
    """
    exists(path)
    try:
        with path.open("rb") as stream:  # np.load would leave a damaged file open
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise Mistake(f"{path}: it is a single array; save it with numpy.savez(path, x=..., y=...)")
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as broken:
        raise Mistake(f"{path}: cannot be read as .npz: {(str(broken).splitlines() or ['damaged'])[0]}") from broken
    if "x" not in arrays or not arrays["x"].ndim or not len(arrays["x"]):
        raise Mistake(f"{path}: it has no rows under `x`; there are {sorted(arrays)}")
    if arrays["x"].dtype.kind not in "fiub":
        raise Mistake(f"{path}: `x` holds {arrays['x'].dtype}, not numbers")
    rows = len(arrays["x"])
    for name, values in arrays.items():
        if (name == "y" or name.startswith(GROUP)) and values.shape[:1] != (rows,):
            raise Mistake(f"{path}: `{name}` has shape {list(values.shape)} for {rows} rows")
    return arrays


def table_of_npz(arrays: Mapping[str, np.ndarray[Any, Any]], spec: InputSpec, path: Path) -> Table:
    """Name the columns of a tabular `x` (n, d), which holds numbers and category indices.

    Raises:
        Mistake: the declared columns do not fit it.
    """
    x = arrays["x"]
    if x.ndim != 2 or (spec.columns and len(spec.columns) != x.shape[1]):  # noqa: PLR2004
        raise Mistake(f"{path}: `x` has shape {list(x.shape)}; a table needs (rows, {len(spec.columns) or 'columns'})")
    columns: dict[str, TableColumn] = {}
    for index in range(x.shape[1]):
        column = spec.columns[index] if spec.columns else None
        values = x[:, index].astype(np.float64)
        if column is not None and column.drop:
            raise Mistake(
                f"input.columns.{index}: `x` of an .npz holds the inputs alone; leave {column.name!r} out of both"
            )
        if column is not None and column.declared_kind == "categorical":
            if column.categories is None:
                raise Mistake(f"input.columns.{index}: an .npz holds category indices; declare `categories`")
            names = np.array([*column.categories, None], dtype=object)
            known = (values >= 0) & (values < len(column.categories))
            values = names[np.where(known, values, len(column.categories)).astype(np.int64)]
        name = column.name if column is not None else f"x{index}"
        columns[name] = TableColumn(values, "text" if values.dtype == object else "number")
    return Table(path, columns)


def rows_from_npz(
    arrays: Mapping[str, np.ndarray[Any, Any]], schema: InputSchema, *, classes: tuple[str, ...], path: Path
) -> Rows:
    """Turn arrays into rows; uint8 images are divided by 255, ``classes`` is empty for a regression.

    Raises:
        Mistake: a shape or a label does not fit.
    """
    x = arrays["x"]
    if x.shape[1:] != schema.shape:
        raise Mistake(
            f"{path}: a row of `x` has shape {list(x.shape[1:])}, the config's input has {list(schema.shape)}"
        )
    if schema.kind == "tabular":
        encoded, faults = schema.encode(dict(zip(schema.names, x.astype(np.float64).T, strict=True)))
        if faults:
            raise Mistake(f"{path}, row {faults[0].row}, column {faults[0].place[0]}: {faults[0].message}")
        rows = torch.from_numpy(encoded)
    else:
        rows = torch.from_numpy(x.astype(np.float32))
    scale = schema.kind == "image" and x.dtype == np.uint8
    if scale:
        rows = rows / 255
    elif schema.kind == "image" and (rows.min() < 0 or rows.max() > 1):
        raise Mistake(
            f"{path}: image values reach from {rows.min():g} to {rows.max():g}; scale them to [0, 1] or give uint8"
        )
    groups = {
        name.removeprefix(GROUP): tuple(map(str, values)) for name, values in arrays.items() if name.startswith(GROUP)
    }
    return Rows(rows, _npz_labels(arrays.get("y"), classes, path), groups)


def _npz_labels(y: np.ndarray[Any, Any] | None, classes: tuple[str, ...], path: Path) -> torch.Tensor | None:
    if y is None:
        return None
    y = y.reshape(len(y), -1)[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y  # noqa: PLR2004
    if y.ndim != 1:
        raise Mistake(f"{path}: `y` has shape {list(y.shape)}; it needs one entry per row")
    if not classes:
        if y.dtype.kind not in "fiub" or not np.isfinite(y).all():
            raise Mistake(f"{path}: `y` holds {y.dtype}, or is not finite; a regression needs a number for each row")
        return torch.from_numpy(y.astype(np.float32))
    if y.dtype.kind in "US":
        return indices(TableColumn(y.astype(str).astype(object), "text"), classes, path)
    if y.dtype.kind not in "iub":
        raise Mistake(f"{path}: `y` holds {y.dtype}; it needs class indices or names")
    return class_indices(y, classes, path)
