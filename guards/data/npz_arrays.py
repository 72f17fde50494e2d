"""Chooses the arrays of an .npz file that hold the rows, the labels and the groups."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from guards.data.table import GROUP
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["Arrays", "chosen", "label_texts"]

Arrays = dict[str, npt.NDArray[Any]]
ROWS = ("X", "data", "arr_0", "features", "images", "inputs")
LABELS = ("Y", "label", "labels", "target", "targets", "y_true", "arr_1")
WAY_OUT = (
    "save numbers or texts, such as numpy.asarray(values, dtype=numpy.float32) or numpy.asarray(values, dtype=str)"
)


def chosen(archive: NpzFile, path: Path, *, label: str, required: bool, notices: Notices) -> Arrays:
    """Read the rows as ``x``, the labels as ``y`` and the arrays ``group_NAME``; other arrays are not read.

    The labels are the array ``label``, or else ``y``; ``required`` says that ``label`` must be there.

    Raises:
        Mistake: there are no rows, no such label, another number of labels than rows, or Python objects.
    """
    names = archive.files
    rows = _rows_name(names, path, notices)
    if required and label not in names:
        raise Mistake(f"reference.label: no array {label!r} in {path}; there are {sorted(names)}")
    named = {"x": rows} | {name: name for name in names if name.startswith(GROUP)}
    labelled = next((name for name in (label, "y") if name in names), None)
    if labelled is not None:
        named["y"] = labelled
    arrays = {ours: _array(archive, theirs, path) for ours, theirs in named.items()}
    x = arrays["x"]
    if not x.ndim or not len(x):
        raise Mistake(f"{path}: the file has no rows under `{rows}`; there are {sorted(names)}")
    if x.dtype.kind not in "fiub":
        raise Mistake(f"{path}: `{rows}` holds {x.dtype}, not numbers")
    for name in arrays.keys() - {"x"}:
        arrays[name] = _by_row(arrays[name], named[name], len(x), path)
    guess = next((name for name in LABELS if name in names and name != rows), None)
    if labelled is None and guess is not None:
        notices.warn(
            f"{path}: there is no array {label!r}, so the rows have no labels; if `{guess}` holds the labels, write "
            f"`label: {guess}` under `reference`"
        )
    return arrays


def _by_row(values: npt.NDArray[Any], name: str, rows: int, path: Path) -> npt.NDArray[Any]:
    if values.shape[:1] != (rows,):
        raise Mistake(f"{path}: `{name}` has shape {list(values.shape)} for {rows} rows")
    if not name.startswith(GROUP):
        return values
    if values.size != rows:
        raise Mistake(f"{path}: `{name}` has shape {list(values.shape)}; it needs one entry per row")
    return values.reshape(rows)


def _rows_name(names: list[str], path: Path, notices: Notices) -> str:
    if "x" in names:
        return "x"
    others = [name for name in ROWS if name in names]
    if len(others) != 1:
        raise Mistake(
            f"{path}: the file has no rows under `x`; there are {sorted(names)}; save the rows under the name x"
        )
    notices.note(f"{path}: the rows are read from the array `{others[0]}`, since there is no `x`")
    return others[0]


def _array(archive: NpzFile, name: str, path: Path) -> npt.NDArray[Any]:
    try:
        return np.asarray(archive[name])
    except ValueError as unread:
        if "allow_pickle" not in str(unread):
            raise
        raise Mistake(f"{path}: `{name}` holds Python objects, which are never loaded; {WAY_OUT}") from None


def label_texts(values: npt.NDArray[Any], path: Path) -> npt.NDArray[Any] | None:
    """Give texts (n,) of an array as objects; None if the array holds no texts.

    Raises:
        Mistake: bytes are not UTF-8.
    """
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            raise Mistake(f"{path}: texts are stored as bytes that are not UTF-8; save them as str") from None
    if values.dtype.kind != "U":
        return None
    texts = values.reshape(len(values), -1)[:, 0].astype(object) if values.size == len(values) else None
    if texts is None:
        raise Mistake(f"{path}: an array of labels has shape {list(values.shape)}; it needs one entry per row")
    return texts
