"""Labels of data files: their names, their order, and the index or value of each row's label."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from guards.columns import as_label, check_name
from guards.data.kinds import numbers_of
from guards.data.table import TableColumn, as_texts
from guards.types import Mistake

__all__ = ["class_names", "indices", "resolve_classes", "targets"]

TWO = 2


def resolve_classes(
    declared: tuple[str, ...] | None, labels: TableColumn | None, *, regression: bool
) -> tuple[str, ...] | None:
    """Give the labels: declared, or sorted from the reference; None if only the model's width can tell, () for none.

    Raises:
        Mistake: the reference's labels cannot name classes.
    """
    if regression:
        return ()
    if declared is not None or labels is None:
        return declared
    names = class_names(labels.cells)
    try:
        for name in names:
            check_name(name)
    except ValueError as unnamed:
        raise Mistake(f"reference.label: {unnamed}, or write a missing label as the file's missing value") from None
    if len(names) < TWO:
        raise Mistake(f"model.classes: the reference has the label {list(names)} alone; declare the labels")
    return names


def class_names(values: npt.NDArray[Any]) -> tuple[str, ...]:
    """Sort the label names of a reference; whole numbers in their own order."""
    names = {str(as_label(name)) for name in as_texts(np.asarray(values)) if name is not None}
    return tuple(sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name)))


def indices(labels: TableColumn, classes: tuple[str, ...], path: Path) -> torch.Tensor:
    """Turn label names into class indices (n,) int64.

    Raises:
        Mistake: a row has no label, or one that is none of the classes.
    """
    index = {name: code for code, name in enumerate(classes)}
    names = as_texts(labels.cells)
    for row, name in enumerate(names):
        if name is None:
            raise Mistake(f"{path}, row {row}: it has no label")
        if name not in index:
            raise Mistake(f"{path}, row {row}: {name!r} is none of the classes {list(classes)}")
    return torch.tensor([index[name] for name in names if name is not None])


def targets(labels: TableColumn, path: Path) -> torch.Tensor:
    """Turn the labels of a regression into values (n,) float32.

    Raises:
        Mistake: a row has none, or none that is a finite number.
    """
    numbers = numbers_of("label", labels)
    if not np.isfinite(numbers).all():
        raise Mistake(f"{path}, row {np.flatnonzero(~np.isfinite(numbers))[0]}: it has no label")
    return torch.tensor(numbers, dtype=torch.float32)
