"""From files to rows: YAML configs, and .npz, .csv or .parquet data in the shape of an input schema."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.lib.npyio import NpzFile

from guards.config import Config, parse
from guards.schema import Column, InputSchema, InputSpec, as_label
from guards.types import Mistake, Rows

__all__ = ["Table", "class_names", "load_config", "load_rows", "read_npz", "read_table", "resolve_schema"]

Table = dict[str, np.ndarray[Any, Any]]
MOSTLY_NUMBERS = 0.5
GROUP = "group_"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans alone, so that a label `no` stays a label; a key given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_config(path: Path) -> Config:
    """Read and validate a config.

    Raises:
        Mistake: no such file, no YAML, or a key is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise Mistake(
            f"{path}: cannot be read ({unreadable.__class__.__name__}); give the path of a YAML file"
        ) from None
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as broken:
        mark = getattr(broken, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise Mistake(f"{place}: no valid YAML: {getattr(broken, 'problem', None) or broken}") from None
    return parse(document)


def read_table(path: Path, *, missing: tuple[str, ...] = ()) -> Table:
    """Read a table by column: strings with None for missing where it is text, floats with NaN where it is numeric.

    Raises:
        Mistake: the file is missing, or no such table.
    """
    _exists(path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=["", *missing], encoding="utf-8")
    except (ValueError, OSError, pd.errors.ParserError) as broken:
        raise Mistake(f"{path}: cannot be read as a table: {str(broken).splitlines()[0]}") from broken
    if not len(frame):
        raise Mistake(f"{path}: it has no rows")
    return {str(name): _values(frame[name]) for name in frame}


def _values(series: "pd.Series[Any]") -> np.ndarray[Any, Any]:
    if pd.api.types.is_bool_dtype(series) or not pd.api.types.is_numeric_dtype(series):
        present = series.notna().to_numpy()
        values = np.empty(len(series), dtype=object)
        values[present] = [str(value) for value in series[present]]
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
    present = pd.Series([value for value in values if value is not None], dtype=object)
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
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(dtype=np.float64)
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
    if values.dtype == object:
        return list(values)
    return [None if value != value else f"{value:.17g}" for value in values.tolist()]  # noqa: PLR0124 - NaN


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
        else as_texts(table[column.name])
        for column in schema.columns
    }
    x, faults = schema.encode(encodable)
    if faults:
        raise Mistake(f"{path}, row {faults[0].row}, column {faults[0].place[0]}: {faults[0].message}")
    groups = {name.removeprefix(GROUP): tuple(as_texts(table[name])) for name in table if name.startswith(GROUP)}
    y = _labels(table[label], classes, path) if label in table else None
    return Rows(torch.from_numpy(x), y, groups)


def _labels(values: np.ndarray[Any, Any], classes: tuple[str, ...] | None, path: Path) -> torch.Tensor:
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


def read_npz(path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """Read the arrays of an .npz file, without unpickling.

    Raises:
        Mistake: no such file, no `x` in it, or it holds Python objects.
    """
    _exists(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, NpzFile):
                raise Mistake(f"{path}: it is a single array; save it with numpy.savez(path, x=..., y=...)")
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as broken:
        raise Mistake(f"{path}: cannot be read as .npz: {str(broken).splitlines()[0]}") from broken
    if "x" not in arrays or not len(arrays["x"]):
        raise Mistake(f"{path}: it has no rows under `x`; there are {sorted(arrays)}")
    return arrays


def table_of_npz(arrays: Mapping[str, np.ndarray[Any, Any]], spec: InputSpec, path: Path, *, label: str) -> Table:
    """Name the columns of a tabular `x` (n, d), which holds numbers and category indices.

    Raises:
        Mistake: the declared columns do not fit it.
    """
    x = arrays["x"]
    if x.ndim != 2 or (spec.columns and len(spec.columns) != x.shape[1]):  # noqa: PLR2004
        raise Mistake(f"{path}: `x` has shape {list(x.shape)}; a table needs (rows, {len(spec.columns) or 'columns'})")
    table: Table = {label: arrays.get("y", np.zeros(len(x)))}
    for index in range(x.shape[1]):
        column = spec.columns[index] if spec.columns else None
        values = x[:, index].astype(np.float64)
        if column is not None and column.kind == "categorical":
            if column.categories is None:
                raise Mistake(f"input.columns.{index}: an .npz holds category indices; declare `categories`")
            names = np.array([*column.categories, None], dtype=object)
            known = (values >= 0) & (values < len(column.categories))
            values = names[np.where(known, values, len(column.categories)).astype(np.int64)]
        table[column.name if column is not None else f"x{index}"] = values
    return table


def rows_from_npz(
    arrays: Mapping[str, np.ndarray[Any, Any]],
    schema: InputSchema,
    *,
    classes: tuple[str, ...] | None,
    regression: bool,
    path: Path,
) -> Rows:
    """Turn arrays into rows; uint8 images are divided by 255.

    Raises:
        Mistake: a shape or a label does not fit.
    """
    x = arrays["x"]
    if x.shape[1:] != schema.shape:
        raise Mistake(
            f"{path}: a row of `x` has shape {list(x.shape[1:])}, the config's input has {list(schema.shape)}"
        )
    if x.dtype.kind not in "fiub":
        raise Mistake(f"{path}: `x` holds {x.dtype}, not numbers")
    scale = schema.kind == "image" and x.dtype == np.uint8
    rows = torch.from_numpy(x.astype(np.float32))
    if scale:
        rows = rows / 255
    elif schema.kind == "image" and (rows.min() < 0 or rows.max() > 1):
        raise Mistake(
            f"{path}: image values reach from {rows.min():g} to {rows.max():g}; scale them to [0, 1] or give uint8"
        )
    groups = {
        name.removeprefix(GROUP): tuple(map(str, values)) for name, values in arrays.items() if name.startswith(GROUP)
    }
    for name, values in {"y": arrays.get("y"), **arrays}.items():
        if values is not None and len(values) != len(x):
            raise Mistake(f"{path}: `{name}` has {len(values)} entries for {len(x)} rows")
    return Rows(rows, _npz_labels(arrays.get("y"), classes, regression, path), groups)


def _npz_labels(
    y: np.ndarray[Any, Any] | None, classes: tuple[str, ...] | None, regression: bool, path: Path
) -> torch.Tensor | None:
    if y is None:
        return None
    y = y.reshape(len(y), -1)[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y  # noqa: PLR2004
    if y.ndim != 1:
        raise Mistake(f"{path}: `y` has shape {list(y.shape)}; it needs one entry per row")
    if regression:
        return torch.from_numpy(y.astype(np.float32))
    if y.dtype.kind in "US":
        assert classes is not None  # noqa: S101 - names are resolved before
        return _labels(np.array([str(name) for name in y.astype(str)], dtype=object), classes, path)
    if y.dtype.kind not in "iub":
        raise Mistake(f"{path}: `y` holds {y.dtype}; it needs class indices or names")
    index = torch.from_numpy(y.astype(np.int64))
    if classes is not None and (int(index.min()) < 0 or int(index.max()) >= len(classes)):
        raise Mistake(f"{path}: `y` reaches from {index.min()} to {index.max()}, but there are {len(classes)} classes")
    return index


def load_rows(path: Path, config: Config, schema: InputSchema, classes: tuple[str, ...]) -> Rows:
    """Read a data file for a fitted schema.

    Raises:
        Mistake: it does not fit.
    """
    regression = config.model.task == "regression"
    if path.suffix == ".npz":
        return rows_from_npz(read_npz(path), schema, classes=classes or None, regression=regression, path=path)
    if schema.kind != "tabular":
        raise Mistake(f"{path}: rows of kind {schema.kind} come as .npz")
    table = read_table(path, missing=config.reference.missing)
    return rows_from_table(table, schema, label=config.reference.label, classes=classes or None, path=path)


def class_names(values: np.ndarray[Any, Any]) -> tuple[str, ...]:
    """Sort the label names of a reference; whole numbers in their own order."""
    names = {str(as_label(name)) for name in as_texts(np.asarray(values)) if name is not None}
    return tuple(sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name)))


def _exists(path: Path) -> None:
    if not path.is_file():
        raise Mistake(f"{path}: no such file")
