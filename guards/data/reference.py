"""Reads the reference of a config: its columns, its labels, and the rows for fitting and for calibration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from guards.config.config import Config
from guards.config.sections import ReferenceConfig
from guards.data.input_columns import Reading, readings
from guards.data.labels import resolve_classes
from guards.data.npz import read_npz, rows_from_npz, table_of_npz
from guards.data.npz_arrays import label_texts
from guards.data.npz_layout import not_finite
from guards.data.rows import check_known, load_rows, rows_from_table
from guards.data.table import Table, TableColumn, choices, exists
from guards.data.table_file import read_table
from guards.data.value_spread import compare_spread, spread_of
from guards.input.schema import InputSchema
from guards.notices import Notices
from guards.types import Mistake, Rows

__all__ = ["ReferenceFile", "first_rows", "read_reference", "read_rows", "split_order"]

CHANNELS = (1, 3, 4)
"""The numbers of channels that a picture usually has."""
FIRST = 4
"""How many rows a model is tried on before all rows are read."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceFile:
    """The file of ``reference.path``, read once.

    ``readings`` are the ways to read ``input.columns``; if there are two, the model tells which is meant. ``table`` has
    the file's columns (also of an .npz, if the input is tabular), ``arrays`` the arrays of an .npz. ``classes`` is None
    if only the number of the model's outputs can tell how many classes there are, and empty for a regression.
    """

    path: Path
    readings: tuple[Reading, ...]
    classes: tuple[str, ...] | None
    table: Table | None
    arrays: dict[str, npt.NDArray[Any]] | None


def read_reference(config: Config, folder: Path, notices: Notices) -> ReferenceFile:
    """Read the reference, and find out what its columns and its labels are.

    Raises:
        Mistake: the file cannot be read, or does not fit the config.
    """
    path, label = folder / config.reference.path, config.reference.label
    arrays, table, labels = None, None, None
    asked = "label" in config.reference.model_fields_set
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path, label=label, required=asked, notices=notices)
        table = table_of_npz(arrays, config.input, path) if config.input.kind == "tabular" else None
        texts = label_texts(arrays["y"], path) if "y" in arrays else None
        labels = None if texts is None else TableColumn(texts, "text")
    elif config.input.kind == "tabular":
        wanted = {label, *(column.name for column in config.input.columns)}
        table = read_table(path, missing=config.reference.missing, wanted=wanted, notices=notices)
        labels = table.columns.get(label)
        if labels is None:
            absent = f"reference.label: no column {label!r} in {path}; {choices(label, list(table.columns))}"
            if asked:
                raise Mistake(f"{absent}; if the rows have no labels, leave reference.label out")
            if not config.input.columns:
                raise Mistake(f"{absent}; if the rows have no labels, name the model's columns under input.columns")
            notices.note(f"{absent}; the rows are read without labels")
    else:
        exists(path, folder=True)
        raise Mistake(
            f"reference.path: rows of kind {config.input.kind} come as .npz (numpy.savez(path, x=..., y=...)), not "
            f"{path.suffix or 'a folder'}"
        )
    shape = config.input.shape or ()
    if config.input.kind == "image" and shape[2] in CHANNELS and shape[0] == shape[1] > max(CHANNELS):
        notices.warn(
            f"input.shape: {list(shape)} looks like channels last; channels come first: write "
            f"{[shape[2], *shape[:2]]}, and save x.transpose(0, 3, 1, 2)"
        )
    regression = config.model.task == "regression"
    return ReferenceFile(
        path,
        readings(config.input, table, label=label),
        resolve_classes(config.model.classes, labels, regression=regression, notices=notices),
        table,
        arrays,
    )


def first_rows(reference: ReferenceFile, schema: InputSchema) -> Tensor | None:
    """Give the first rows (n, ...) of images or tensors; None for a table, or if rows are too few or not finite.

    Raises:
        Mistake: the rows do not fit the schema.
    """
    if schema.kind == "tabular" or reference.arrays is None:
        return None
    every = reference.arrays["x"]
    try:
        x = rows_from_npz({"x": every[:FIRST]}, schema, classes=(), path=reference.path).x
    except Mistake:
        rows_from_npz({"x": every}, schema, classes=(), path=reference.path)  # so the sentence has figures of all rows
        raise
    return x if len(x) == FIRST and bool(x.isfinite().all()) else None


def read_rows(
    reference: ReferenceFile,
    config: Config,
    folder: Path,
    notices: Notices,
    *,
    schema: InputSchema,
    classes: tuple[str, ...],
) -> tuple[InputSchema, Rows, Rows]:
    """Give the schema with the spread of its values, the rows for fitting, and the rows for calibration.

    Raises:
        Mistake: a file cannot be read, or does not fit the schema.
    """
    if reference.arrays is not None:
        train = rows_from_npz(
            reference.arrays,
            schema,
            classes=classes,
            path=reference.path,
            spec=config.input,
            notices=notices,
        )
        _check_finite(train, schema, reference.path)
    else:
        assert reference.table is not None  # noqa: S101 - one or the other was read
        train = rows_from_table(reference.table, schema, label=config.reference.label, classes=classes)
    _warn_of_equal_rows(train.x, reference.path, notices)
    if config.reference.calibration is not None:
        path = folder / config.reference.calibration
        heldout = load_rows(path, config, schema, classes, notices)
        if train.y is not None and heldout.y is None:
            raise Mistake(
                f"{path}: no label {config.reference.label!r}, which {reference.path} has; "
                "give the label the same name in both files"
            )
        check_known(heldout, schema, path, notices)
        _check_finite(heldout, schema, path)
        schema = _with_spread(schema, train)
        compare_spread(heldout, schema.spread, kind=schema.kind, path=path, notices=notices)
        return schema, train, heldout
    notices.warn(
        "reference.calibration is not given: calibration rows are split off reference.path; if the model was "
        "trained on these rows, false alarms will be more frequent than the budget"
    )
    train, heldout = (train.take(places) for places in split_order(len(train), config.reference))
    return _with_spread(schema, train), train, heldout


def _with_spread(schema: InputSchema, train: Rows) -> InputSchema:
    if schema.kind == "tabular":
        return schema
    return schema.model_copy(update={"spread": spread_of(train.x)})


def _warn_of_equal_rows(x: Tensor, path: Path, notices: Notices) -> None:
    if len(x) > 1 and bool(((x == x[:1]) | (x.isnan() & x[:1].isnan())).all()):
        notices.warn(
            f"{path}: all {len(x)} rows are equal, so that a guard knows this row alone, and any other row is strange: "
            "look at how the file was written"
        )


def _check_finite(rows: Rows, schema: InputSchema, path: Path) -> None:
    unsound = None if schema.kind == "tabular" else not_finite(rows.x.numpy(), schema, path)
    if unsound is not None:
        raise Mistake(unsound)


def split_order(rows: int, reference: ReferenceConfig) -> tuple[Tensor, Tensor]:
    """Give the places of the rows for fitting, and of the calibration rows that are split off them.

    Raises:
        Mistake: one of the two parts has no rows.
    """
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(reference.seed))
    cut = round(rows * reference.calibration_fraction)
    if not 0 < cut < rows:
        raise Mistake(
            f"reference.calibration_fraction: {reference.calibration_fraction:g} of {rows} rows leaves one of the two "
            "parts without rows"
        )
    return order[cut:], order[:cut]
