"""Turns an Arrow array into a column of a table; Arrow's type decides the column's type."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from guards.data.table import EXACT, ColumnType, TableColumn, as_texts

__all__ = ["column_of"]

Cells = npt.NDArray[Any]
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
SHOWN = 80


def column_of(values: pa.ChunkedArray, *, categorical: bool = False, untyped: bool = False) -> TableColumn:
    """Read an array without loss.

    ``categorical`` says that the values are categories, ``untyped`` that they are texts which may stand for anything.

    Null and NaN are both missing. Whole numbers stay exact, decimals become float64, times become ISO 8601 texts.

    Raises:
        ArrowException: the array is damaged.
    """
    if getattr(values.type, "extension_name", None) == "pandas.period":
        periods = values.to_pandas()
        return TableColumn(_array([None if period is pd.NaT else str(period) for period in periods]), "date")
    values = _stored(values)
    if kinds.is_dictionary(values.type):
        return _dictionary(values, categorical=categorical or bool(values.type.ordered))
    if untyped or kinds.is_null(values.type) or kinds.is_boolean(values.type):
        return TableColumn(_objects(values), "boolean" if kinds.is_boolean(values.type) else "untyped")
    numbers = _numbers(values)
    if numbers is None:
        cells, kind = _texts(values)
        return TableColumn(cells, kind)
    if categorical:
        texts = as_texts(numbers)
        order = [text for text in as_texts(np.unique(numbers[~_missing(numbers)])) if text is not None]
        return TableColumn(_array(texts), "category", tuple(order))
    return TableColumn(numbers, "number")


def _stored(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace an extension type by the type that stores its values, and run-length encoded values by single values."""
    while isinstance(values.type, pa.BaseExtensionType):
        chunks = [chunk.storage for chunk in values.chunks]
        values = pa.chunked_array(chunks, type=values.type.storage_type)
    return pc.run_end_decode(values) if kinds.is_run_end_encoded(values.type) else values


def _dictionary(values: pa.ChunkedArray, *, categorical: bool) -> TableColumn:
    """Read a dictionary. Its order is kept if ``categorical``; otherwise the order is only that of the first rows."""
    values = values.unify_dictionaries()
    entries = values.chunk(0).dictionary if values.num_chunks else pa.array([], values.type.value_type)
    inner = column_of(pa.chunked_array([entries]))
    names = as_texts(inner.cells)
    if inner.type == "nested":
        return TableColumn(column_of(values.cast(values.type.value_type)).cells, "nested")
    codes = pc.fill_null(pa.chunked_array([chunk.indices for chunk in values.chunks], values.type.index_type), -1)
    cells = _array([*names, None])[codes.cast(pa.int64()).to_numpy()]
    # A category that is null is a missing value and no category.
    declared = tuple(name for name in names if name is not None)
    return TableColumn(cells, "category", declared if categorical else None, ordered=bool(values.type.ordered))


def _numbers(values: pa.ChunkedArray) -> Cells | None:
    """Give numbers as float64, int64 or uint64; as objects if some are missing and some too large for float64."""
    if kinds.is_decimal(values.type) and values.type.scale <= 0:
        exact = [None if value is None else int(value) for value in values.to_pylist()]
        if max((abs(value) for value in exact if value is not None), default=0) > np.iinfo(np.int64).max:
            return _array(exact)
        values = pa.chunked_array([pa.array(exact, pa.int64())])
    if kinds.is_decimal(values.type) or kinds.is_floating(values.type):
        return _floats(values)
    if not kinds.is_integer(values.type):
        return None
    if not values.null_count:
        return np.asarray(values.to_numpy(), dtype=np.uint64 if kinds.is_uint64(values.type) else np.int64)
    bounds = pc.min_max(values).as_py()
    small = bounds["max"] is None or max(bounds["max"], -bounds["min"]) <= EXACT
    return _floats(values) if small else _array(values.to_pylist())


def _texts(values: pa.ChunkedArray) -> tuple[Cells, ColumnType]:
    kind = values.type
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return _objects(values), "text"
    if kinds.is_timestamp(kind) or kinds.is_date(kind) or kinds.is_time(kind):
        # An instant is stored in UTC. Without its zone it needs no database of time zones: a machine may have none.
        zone = "Z" if kinds.is_timestamp(kind) and kind.tz is not None else ""
        plain = values.cast(pa.timestamp(kind.unit)) if zone else values
        texts = pc.replace_substring(plain.cast(pa.string()), " ", "T")
        return _objects(pc.replace_substring_regex(texts, r"(\.0+)?$", zone, max_replacements=1)), "date"
    if kinds.is_duration(kind):
        unit = UNITS[kind.unit]
        spans = values.cast(pa.int64()).to_pylist()
        return _array([None if span is None else f"PT{span / unit:.15g}S" for span in spans]), "date"
    return _array([None if value is None else str(value)[:SHOWN] for value in values.to_pylist()]), "nested"


def _floats(values: pa.ChunkedArray) -> Cells:
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _objects(values: pa.ChunkedArray) -> Cells:
    return values.to_numpy().astype(object) if values.null_count < len(values) else _array([None] * len(values))


def _array(values: list[Any]) -> Cells:
    """Make an array of objects from a list, without looking into the objects."""
    cells = np.empty(len(values), dtype=object)
    cells[:] = values
    return cells


def _missing(cells: Cells) -> npt.NDArray[np.bool_]:
    if cells.dtype == object:
        return np.array([cell is None for cell in cells])
    return np.isnan(cells) if cells.dtype.kind == "f" else np.zeros(len(cells), dtype=bool)
