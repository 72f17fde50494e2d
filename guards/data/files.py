"""From a data file of any kind to a table, by the file's name."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from guards.data.table import ColumnType, Table, TableColumn, exists
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["read_table"]


def read_table(path: Path, *, missing: tuple[str, ...] = (), notices: Notices | None = None) -> Table:
    """Read a table by column, with the types of the file; ``missing`` are more strings that mean no value.

    Raises:
        Mistake: the file is missing, or no such table.
    """
    exists(path)
    _ = notices
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=["", *missing], encoding="utf-8")
    except (ValueError, OSError, EOFError, zlib.error, ImportError) as broken:
        raise Mistake(f"{path}: cannot be read as a table: {(str(broken).splitlines() or ['damaged'])[0]}") from broken
    if not len(frame):
        raise Mistake(f"{path}: it has no rows")
    untyped = path.suffix != ".parquet"
    return Table(path, {str(name): _column(frame[name], untyped=untyped) for name in frame})


def _column(series: "pd.Series[Any]", *, untyped: bool) -> TableColumn:
    kind: ColumnType = "untyped" if untyped else "text"
    if pd.api.types.is_bool_dtype(series) or not pd.api.types.is_numeric_dtype(series):
        present = series.notna().to_numpy()
        values = np.empty(len(series), dtype=object)
        values[present] = [value if isinstance(value, bool) else str(value) for value in series[present].tolist()]
        return TableColumn(values, "boolean" if pd.api.types.is_bool_dtype(series) else kind)
    return TableColumn(series.to_numpy(dtype=np.float64, na_value=np.nan), "number")
