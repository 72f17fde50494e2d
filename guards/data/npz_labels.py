"""Reads the labels of an .npz file: class indices, class names, or the values of a regression."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from guards.data.labels import indices
from guards.data.npz_arrays import label_texts
from guards.data.table import TableColumn
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["npz_labels"]

Labels = npt.NDArray[Any]
FLAT = 2


def npz_labels(y: Labels | None, classes: tuple[str, ...], path: Path, notices: Notices) -> torch.Tensor | None:
    """Turn the array of labels into class indices (n,) int64, or (``classes`` is empty) values (n,) float32.

    Raises:
        Mistake: a row has no label, or its label is not one of the classes.
    """
    if y is None:
        return None
    y = y[:, 0] if y.ndim == FLAT and y.shape[1] == 1 else y
    if y.ndim == FLAT and classes:
        y = _decoded(y, classes, path, notices)
    if y.ndim != 1:
        raise Mistake(f"{path}: `y` has shape {list(y.shape)}; it needs one entry per row")
    if not classes:
        return _values(y, path)
    texts = label_texts(y, path)
    if texts is not None:
        return indices(TableColumn(texts, "text"), classes, path)
    if y.dtype.kind not in "fiub":
        raise Mistake(f"{path}: `y` holds {y.dtype}; it needs class indices or names")
    if y.dtype.kind == "f":
        y = _whole(y, path, notices)
    _in_range(y, classes, path, notices)
    return torch.from_numpy(y.astype(np.int64))


def _decoded(y: Labels, classes: tuple[str, ...], path: Path, notices: Notices) -> Labels:
    """Read one-hot labels (n, k)."""
    if y.dtype.kind not in "fiub" or not np.isin(y, (0, 1)).all() or not (y.sum(axis=1) == 1).all():
        raise Mistake(
            f"{path}: `y` has shape {list(y.shape)}; it needs one entry per row: the index of the class, such as "
            "y.argmax(axis=1), or its name"
        )
    if y.shape[1] != len(classes):
        raise Mistake(f"{path}: `y` is one-hot with {y.shape[1]} columns, but there are {len(classes)} classes")
    notices.note(f"{path}: `y` is one-hot; it is read as class indices, with column 0 as {classes[0]!r}")
    return np.asarray(y.argmax(axis=1))


def _values(y: Labels, path: Path) -> torch.Tensor:
    if y.dtype.kind not in "fiub":
        raise Mistake(f"{path}: `y` holds {y.dtype}; a regression needs a number for each row")
    values = y.astype(np.float32)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise Mistake(
            f"{path}, row {row}: `y` is {y[row]}, which is not finite in float32; a regression needs a number"
        )
    return torch.from_numpy(values)


def _whole(y: Labels, path: Path, notices: Notices) -> Labels:
    missing = np.flatnonzero(np.isnan(y))
    if len(missing):
        raise Mistake(f"{path}, row {missing[0]}: the row has no label (NaN in `y`)")
    odd = np.flatnonzero(y != np.floor(y))
    if len(odd) or not np.isfinite(y).all():
        value = y[odd[0]] if len(odd) else y[~np.isfinite(y)][0]
        raise Mistake(
            f"{path}: `y` holds {y.dtype}, such as {value:g}; it needs class indices or names; for a regression write "
            "`task: regression` under `model`"
        )
    notices.note(f"{path}: `y` holds whole numbers as {y.dtype}; they are read as class indices")
    return y


def _in_range(y: Labels, classes: tuple[str, ...], path: Path, notices: Notices) -> None:
    """Check class indices; a notice says so if the indices are also the names of other classes.

    Raises:
        Mistake: a number is no index of a class.
    """
    found = [int(value) for value in np.unique(y)]
    names = set(map(str, found)) <= set(classes)
    if found[0] < 0 or found[-1] >= len(classes):
        if names:
            advice = "they are names of classes: save them as texts, y.astype(str)"
        elif len(found) == len(classes):
            advice = (
                f"if {found[0]} stands for {classes[0]!r} and so on in this order, save "
                "numpy.unique(y, return_inverse=True)[1]; else save the names of the classes"
            )
        else:
            advice = f"save indices from 0 to {len(classes) - 1}, or the names of the classes"
        raise Mistake(
            f"{path}: `y` reaches from {found[0]} to {found[-1]}, but there are {len(classes)} classes; {advice}"
        )
    other = next((value for value in found if str(value) in classes and classes[value] != str(value)), None)
    if other is not None:
        notices.warn(
            f"{path}: the numbers in `y` are indices of classes: {other} means {classes[other]!r}, not the class "
            f"named {str(other)!r}; if names are meant, save y.astype(str)"
        )
