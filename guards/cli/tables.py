"""From .csv and .parquet tables to rows."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from guards.columns import Column
from guards.schema import InputSchema, InputSpec
from guards.types import Mistake, Rows

__all__ = ["GROUP", "Table", "as_texts", "exists", "labels", "read_table", "resolve_schema", "rows_from_table"]

Table = dict[str, np.ndarray[Any, Any]]
MOSTLY_NUMBERS = 0.5
GROUP = "group_"


def read_table(path: Path, *, missing: tuple[str, ...] = ()) -> Table:
    """Read a table by column: floats with NaN for missing if it is numeric, else strings or booleans with None.

    Raises:
        Mistake: the file is missing, or no such table.
    """
    exists(path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=["", *missing], encoding="utf-8")
    except (ValueError, OSError, EOFError, zlib.error, ImportError) as broken:
        raise Mistake(f"{path}: cannot be read as a table: {(str(broken).splitlines() or ['damaged'])[0]}") from broken
    if not len(frame):
        raise Mistake(f"{path}: it has no rows")
    return {str(name): _values(frame[name]) for name in frame}


def _values(series: "pd.Series[Any]") -> np.ndarray[Any, Any]:
    if pd.api.types.is_bool_dtype(series) or not pd.api.types.is_numeric_dtype(series):
        present = series.notna().to_numpy()
        values = np.empty(len(series), dtype=object)
        values[present] = [value if isinstance(value, bool) else str(value) for value in series[present].tolist()]
        return values
    return series.to_numpy(dtype=np.float64, na_value=np.nan)


def resolve_schema(spec: InputSpec, table: Table, *, label: str) -> tuple[InputSchema, list[str]]:
    """Complete the config's input with what the reference table has: columns, kinds, categories, imputed values.

    Gives the schema, and a warning for each column that looks like numbers but is not all of them.

    Raises:
        Mistake: a declared column is not there, or is not of its kind.
    """
    if spec.kind != "tabular":
        return InputSchema(kind=spec.kind, shape=spec.shape or ()), []
    if not spec.columns and label not in table:
        raise Mistake(f"reference.label: no column {label!r} in the reference; there are {sorted(table)}")
    warnings: list[str] = []
    declared = {column.name: column for column in spec.columns}
    names = list(declared) or [name for name in table if name != label and not name.startswith(GROUP)]
    if not names:
        raise Mistake(f"input.columns: the reference has no column but the label; there are {sorted(table)}")
    columns = []
    for name in names:
        if name not in table:
            raise Mistake(f"input.columns: no column {name!r} in the reference; there are {sorted(table)}")
        given = (
            declared[name].model_dump() if name in declared else {"name": name, "kind": _kind(name, table, warnings)}
        )
        values = table[name]
        if given["kind"] == "numeric":
            numbers = _numbers(name, values)
            present = numbers[~np.isnan(numbers)]
            fill = float(np.median(present)) if len(present) else 0.0
            columns.append(Column.model_validate({**given, "fill": fill}))
            continue
        texts = [text for text in as_texts(values) if text is not None]
        seen, counts = np.unique(texts, return_counts=True) if texts else (np.array([""]), np.array([0]))
        categories = given.get("categories") or tuple(map(str, seen))
        common = [str(name) for name in seen[np.argsort(-counts, kind="stable")] if name in categories]
        columns.append(
            Column.model_validate(
                {
                    **given,
                    "categories": categories,
                    "categories_declared": given.get("categories") is not None,
                    "fill": float(categories.index(common[0])) if common else 0.0,
                }
            )
        )
    return InputSchema(kind="tabular", shape=(len(columns),), columns=tuple(columns)), warnings


def _kind(name: str, table: Table, warnings: list[str]) -> str:
    values = table[name]
    if values.dtype != object:
        return "numeric"
    present = pd.Series([str(value) for value in values if value is not None], dtype=object)
    numbers = pd.to_numeric(present, errors="coerce")
    if len(present) and numbers.notna().all():
        return "numeric"
    if numbers.notna().mean() > MOSTLY_NUMBERS:
        odd = present[numbers.isna()].iloc[0]
        warnings.append(
            f"column {name!r} is taken as categorical because of values such as {odd!r}; if they mean missing, "
            "add them to reference.missing"
        )
    return "categorical"


def _numbers(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype != object:
        return values
    numbers = pd.to_numeric(pd.Series(as_texts(values), dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    present = np.array([value is not None for value in values])
    odd = np.flatnonzero(present & ~np.isfinite(numbers))
    if len(odd):
        raise Mistake(
            f"column {name!r}, row {odd[0]}: {values[odd[0]]!r} is no number; if it means missing, add it to "
            "reference.missing, or declare the column categorical"
        )
    return numbers


def as_texts(values: np.ndarray[Any, Any]) -> list[str | None]:
    """Read categories: numbers as their shortest digits, missing values as None."""
    if values.dtype.kind == "S":
        values = values.astype(str)
    if values.dtype.kind not in "fiub":
        return [None if value is None else str(value) for value in values.astype(object)]
    numbers = values.astype(np.float64).tolist()
    return [None if value != value else repr(value).removesuffix(".0") for value in numbers]  # noqa: PLR0124 - NaN


def rows_from_table(
    table: Table, schema: InputSchema, *, label: str, classes: tuple[str, ...] | None, path: Path
) -> Rows:
    """Turn a table into rows; the label's column need not be there, ``group_NAME`` columns become groups.

    Raises:
        Mistake: a column is missing or not of its kind, or a label is not known.
    """
    absent = [name for name in schema.names if name not in table]
    if absent:
        raise Mistake(f"{path}: no column {absent[0]!r}; there are {sorted(table)}")
    encodable: dict[str, Any] = {
        column.name: _numbers(column.name, table[column.name])
        if column.kind == "numeric"
        else _categories(column, table[column.name], path)
        for column in schema.columns
    }
    x, faults = schema.encode(encodable)
    if faults:
        raise Mistake(f"{path}, row {faults[0].row}, column {faults[0].place[0]}: {faults[0].message}")
    groups = {name.removeprefix(GROUP): tuple(as_texts(table[name])) for name in table if name.startswith(GROUP)}
    y = labels(table[label], classes, path) if label in table else None
    return Rows(torch.from_numpy(x), y, groups)


def _categories(column: Column, values: np.ndarray[Any, Any], path: Path) -> list[str | None]:
    """Read a column's categories by name: a number or a boolean is the category that is written so."""
    texts = as_texts(values)
    named: dict[object, str | None] = {}
    for row, (value, text) in enumerate(zip(values.tolist(), texts, strict=True)):
        if text is None or isinstance(value, str):
            continue
        try:
            if value not in named:
                named[value] = column.category_of(value)
        except ValueError as two:
            raise Mistake(f"{path}, row {row}, column {column.name}: {two}") from None
        texts[row] = named[value] or text
    return texts


def labels(values: np.ndarray[Any, Any], classes: tuple[str, ...] | None, path: Path) -> torch.Tensor:
    """Turn labels into class indices, or targets into float32 where there are no classes."""
    if classes is None:
        numbers = _numbers("label", values)
        if not np.isfinite(numbers).all():
            raise Mistake(f"{path}, row {np.flatnonzero(~np.isfinite(numbers))[0]}: it has no label")
        return torch.tensor(numbers, dtype=torch.float32)
    index = {name: code for code, name in enumerate(classes)}
    names = as_texts(values)
    for row, name in enumerate(names):
        if name is None:
            raise Mistake(f"{path}, row {row}: it has no label")
        if name not in index:
            raise Mistake(f"{path}, row {row}: {name!r} is none of the classes {list(classes)}")
    return torch.tensor([index[name] for name in names if name is not None])


def exists(path: Path) -> None:
    """Refuse a path that names no file."""
    if not path.is_file():
        raise Mistake(f"{path}: no such file")
