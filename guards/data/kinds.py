"""What each column of a reference is: its kind, its categories, and what stands in for a missing value."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from guards.columns import Column, ColumnSpec
from guards.data.table import GROUP, Table, TableColumn, as_texts
from guards.notices import Notices
from guards.schema import InputSchema, InputSpec
from guards.types import Mistake

__all__ = ["numbers_of", "resolve_schema"]

MOSTLY_NUMBERS = 0.5


def resolve_schema(spec: InputSpec, table: Table | None, *, label: str, notices: Notices) -> InputSchema:
    """Complete the config's input with what the reference table has: columns, kinds, categories, imputed values.

    ``table`` is None for images and tensors.

    Raises:
        Mistake: a declared column is not there, or is not of its kind.
    """
    if table is None:
        return InputSchema(kind=spec.kind, shape=spec.shape or ())
    declared = {column.name: column for column in spec.columns}
    names = list(declared) or [name for name in table.columns if name != label and not name.startswith(GROUP)]
    if not names:
        raise Mistake(f"input.columns: the reference has no column but the label; there are {sorted(table.columns)}")
    columns = []
    for name in names:
        if name not in table.columns:
            raise Mistake(f"input.columns: no column {name!r} in the reference; there are {sorted(table.columns)}")
        columns.append(_resolved(name, declared.get(name), table.columns[name], notices))
    return InputSchema(kind="tabular", shape=(len(columns),), columns=tuple(columns))


def _resolved(name: str, spec: ColumnSpec | None, column: TableColumn, notices: Notices) -> Column:
    given = spec.model_dump() if spec is not None else {"name": name, "kind": _kind(name, column, notices)}
    if given["kind"] == "numeric":
        numbers = numbers_of(name, column)
        present = numbers[~np.isnan(numbers)]
        return Column.model_validate({**given, "fill": float(np.median(present)) if len(present) else 0.0})
    texts = [text for text in as_texts(column.cells) if text is not None]
    seen, counts = np.unique(texts, return_counts=True) if texts else (np.array([""]), np.array([0]))
    categories = given.get("categories") or tuple(map(str, seen))
    common = [str(name) for name in seen[np.argsort(-counts, kind="stable")] if name in categories]
    return Column.model_validate(
        {
            **given,
            "categories": categories,
            "categories_declared": given.get("categories") is not None,
            "fill": float(categories.index(common[0])) if common else 0.0,
        }
    )


def _kind(name: str, column: TableColumn, notices: Notices) -> str:
    values = column.cells
    if values.dtype != object:
        return "numeric"
    present = pd.Series([str(value) for value in values if value is not None], dtype=object)
    numbers = pd.to_numeric(present, errors="coerce")
    if len(present) and numbers.notna().all():
        return "numeric"
    if numbers.notna().mean() > MOSTLY_NUMBERS:
        odd = present[numbers.isna()].iloc[0]
        notices.warn(
            f"column {name!r} is taken as categorical because of values such as {odd!r}; if they mean missing, "
            "add them to reference.missing"
        )
    return "categorical"


def numbers_of(name: str, column: TableColumn) -> npt.NDArray[np.float64]:
    """Read a column as numbers (n,), NaN for missing.

    Raises:
        Mistake: a value is no number.
    """
    values = column.cells
    if values.dtype != object:
        return values.astype(np.float64)
    numbers = pd.to_numeric(pd.Series(as_texts(values), dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    present = np.array([value is not None for value in values])
    odd = np.flatnonzero(present & ~np.isfinite(numbers))
    if len(odd):
        raise Mistake(
            f"column {name!r}, row {odd[0]}: {values[odd[0]]!r} is no number; if it means missing, add it to "
            "reference.missing, or declare the column categorical"
        )
    return numbers
