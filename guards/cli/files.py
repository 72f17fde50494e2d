"""From a data file of any kind to rows in the shape of a fitted schema."""

from pathlib import Path
from typing import Any

import numpy as np

from guards.cli.arrays import read_npz, rows_from_npz
from guards.cli.tables import as_texts, read_table, rows_from_table
from guards.columns import as_label
from guards.config import Config
from guards.schema import InputSchema
from guards.types import Mistake, Rows

__all__ = ["class_names", "load_rows"]


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
