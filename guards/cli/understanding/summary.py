"""What fit has understood: the document of ``fit --json`` and of ``check --json``."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from guards.bundle.model_quality.quality import Quality
from guards.bundle.preparation import Prepared
from guards.data.table import GROUP, Table, TableColumn, as_texts
from guards.input.column import Column

__all__ = ["ClassShare", "ColumnSummary", "InputSummary", "ModelSummary", "Summary", "accuracies", "summarise"]

EXAMPLES = 3
LOOKED_AT = 2000


class ColumnSummary(TypedDict):
    """One column of a table; ``kind`` is None if the column is no input of the model.

    ``role`` is input, label, group or unused. ``missing`` is the share of training rows without a value. ``imputed``
    is what the model gets for a missing value, in the file's own terms.
    """

    name: str
    role: str
    kind: str | None
    type: str
    missing: float | None
    examples: list[str]
    categories: int | None
    imputed: str | float | None
    scale: float | None


class InputSummary(TypedDict):
    """The rows as the model gets them; for a table, ``columns`` says more."""

    kind: str
    shape: list[int]
    type: str | None
    minimum: float | None
    maximum: float | None
    mean: float | None


class ClassShare(TypedDict):
    """A class in logit order, and its share of the labelled rows; the share is None if there are no labels."""

    name: str
    train: float | None
    calibration: float | None


class ModelSummary(TypedDict):
    """How the model was built, how it runs, and what its outputs are."""

    source: str
    weights: str | None
    task: str
    parameters: int
    feature_layer: str
    feature_width: int
    outputs: int
    output: str
    precision: str
    device: str


class Summary(TypedDict):
    """Everything that was understood before fitting."""

    rows: dict[str, int]
    input: InputSummary
    columns: list[ColumnSummary]
    classes: list[ClassShare]
    model: ModelSummary


def summarise(prepared: Prepared) -> Summary:
    """Describe the columns, the classes and the model of a config."""
    return {
        "rows": {"train": len(prepared.train), "calibration": len(prepared.heldout)},
        "input": _input(prepared),
        "columns": [] if prepared.reference.table is None else _columns(prepared, prepared.reference.table),
        "classes": _classes(prepared),
        "model": _model(prepared),
    }


def accuracies(found: Mapping[str, Quality | None]) -> dict[str, dict[str, Any] | None]:
    """Write the model's quality on each part of the rows as JSON."""
    return {part: None if quality is None else asdict(quality) for part, quality in found.items()}


def _input(prepared: Prepared) -> InputSummary:
    x, arrays = prepared.train.x, prepared.reference.arrays
    table = prepared.schema.kind == "tabular"
    return {
        "kind": prepared.schema.kind,
        "shape": list(prepared.schema.shape),
        "type": str(arrays["x"].dtype) if arrays is not None and "x" in arrays else None,
        "minimum": None if table else float(x.min()),
        "maximum": None if table else float(x.max()),
        "mean": None if table else float(x.mean()),
    }


def _columns(prepared: Prepared, table: Table) -> list[ColumnSummary]:
    inputs = {column.name: index for index, column in enumerate(prepared.schema.columns)}
    absent = prepared.train.x.isnan().double().mean(0).tolist()
    marks = set(prepared.config.reference.missing)
    found = [
        _column(column, table.columns[column.name], absent[inputs[column.name]], marks)
        for column in prepared.schema.columns
        if column.name in table.columns
    ]
    for name, cells in table.columns.items():
        if name not in inputs:
            label = name == prepared.config.reference.label
            role = "label" if label else "group" if name.startswith(GROUP) else "unused"
            found.append(
                {
                    "name": name, "role": role, "kind": None, "type": _type(cells), "missing": None,
                    "examples": _examples(None, cells, marks), "categories": None, "imputed": None, "scale": None,
                }
            )  # fmt: skip
    return found


def _column(column: Column, cells: TableColumn, missing: float, marks: set[str]) -> ColumnSummary:
    names = column.categories if column.kind == "categorical" else None
    imputed: str | float | None = column.fill if names is None else names[int(column.fill)] if names else None
    return {
        "name": column.name,
        "role": "input",
        "kind": column.kind,
        "type": _type(cells),
        "missing": missing,
        "examples": _examples(column, cells, marks | set(column.missing)),
        "categories": None if names is None else len(names),
        "imputed": None if column.impute == "none" else imputed,
        "scale": column.scale,
    }


def _type(cells: TableColumn) -> str:
    """Name the type that the file gives a column; the fields of a CSV have no type."""
    if cells.type == "untyped":
        return "csv"
    return str(cells.cells.dtype) if cells.type == "number" and cells.cells.dtype != object else cells.type


def _examples(column: Column | None, cells: TableColumn, marks: set[str]) -> list[str]:
    """Give the first different values among the first rows, or among all rows if the first rows have no value."""
    for values in (cells.cells[:LOOKED_AT], cells.cells[LOOKED_AT:]):
        texts = [text for text in dict.fromkeys(as_texts(values)) if text is not None and text not in marks]
        if column is not None and column.kind == "numeric":
            texts = [text for text in texts if _is_number(text)]
        if texts:
            return texts[:EXAMPLES]
    return []


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return text.lower() in {"true", "false"}


def _classes(prepared: Prepared) -> list[ClassShare]:
    k = len(prepared.classes)
    train, heldout = (_shares(part.y, k) for part in (prepared.train, prepared.heldout))
    return [
        {
            "name": name,
            "train": None if train is None else float(train[index]),
            "calibration": None if heldout is None else float(heldout[index]),
        }
        for index, name in enumerate(prepared.classes)
    ]


def _shares(y: torch.Tensor | None, classes: int) -> npt.NDArray[np.float64] | None:
    if y is None or not classes or not len(y):
        return None
    return torch.bincount(y.long(), minlength=classes).double().div(len(y)).numpy()


def _model(prepared: Prepared) -> ModelSummary:
    config, model = prepared.config.model, prepared.model
    width = model(prepared.train.x[:2].to(model.device)).features.shape[1]
    return {
        "source": str(config.builder or config.program),
        "weights": config.weights,
        "task": config.task,
        "parameters": sum(parameter.numel() for parameter in model.net.parameters()),
        "feature_layer": _feature_layer(prepared),
        "feature_width": int(width),
        "outputs": 1 if model.binary else model.outputs,
        "output": _output(prepared),
        "precision": model.precision,
        "device": str(model.device),
    }


def _feature_layer(prepared: Prepared) -> str:
    tap = prepared.model.tap
    if tap.layer is None:
        return "the model's own outputs"
    return f"output of layer {tap.layer!r}" if tap.named else f"input of layer {tap.layer!r}"


def _output(prepared: Prepared) -> str:
    """Say what the model's outputs are."""
    if not prepared.classes:
        return "value"
    meaning = prepared.model.meaning.replace("_", " ")
    return (
        {"logits": "one logit", "probabilities": "one probability", "log probabilities": "one log probability"}[meaning]
        if prepared.model.binary
        else meaning
    )
