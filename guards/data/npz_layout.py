"""Brings the rows of an .npz file into the shape and onto the scale of the config's input."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.input.schema import InputSchema
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["laid_out", "not_finite", "scaled"]

Array = npt.NDArray[Any]
BYTE = 255
DARK = 100
"""Pixels from 0 to 255 reach beyond this value; pixels on other scales, such as 0 to 16, do not."""
AXES = 3


def laid_out(x: Array, shape: tuple[int, ...], path: Path, notices: Notices) -> Array:
    """Give rows (n, *shape); if an axis of length 1 is missing or in another place, it is corrected, with a note.

    Raises:
        Mistake: the rows have another shape.
    """
    given = x.shape[1:]
    if given == shape:
        return x
    if [size for size in given if size > 1] == [size for size in shape if size > 1]:
        notices.note(
            f"{path}: rows of shape {list(given)} are read as {list(shape)}: "
            "the shapes differ only in an axis of length 1"
        )
        return x.reshape(len(x), *shape)
    told = f"{path}: a row of `x` has shape {list(given)}, the config's input has {list(shape)}"
    if len(given) == len(shape) <= AXES:
        # Channels last is the most frequent cause, and is tried first.
        orders = (
            [(1, 2, 0), *permutations(range(len(shape)))] if len(shape) == AXES else permutations(range(len(shape)))
        )
        for order in orders:
            if tuple(shape[axis] for axis in order) == given:
                back = ", ".join(str(order.index(axis) + 1) for axis in range(len(shape)))
                name = "channels last" if order == (1, 2, 0) else "the axes in another order"
                raise Mistake(f"{told}; this looks like {name}: save x.transpose(0, {back})")
    if len(given) == 1 and len(shape) > 1 and given[0] == np.prod(shape):
        sizes = ", ".join(map(str, shape))
        raise Mistake(f"{told}; if the rows were flattened from this shape, save x.reshape(-1, {sizes})")
    raise Mistake(told)


def scaled(x: Array, schema: InputSchema, path: Path, notices: Notices) -> npt.NDArray[np.float32]:
    """Give images and tensors (n, *shape) as float32; uint8 is divided by 255, as in requests.

    Values that are not finite cause a warning only: a server refuses such rows, but guards can be measured on them.

    Raises:
        Mistake: a value of an image is outside of [0, 1].
    """
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is found below
        rows = x.astype(np.float32, order="C", copy=x.dtype == np.uint8)
    unsound = not_finite(rows, schema, path) if x.dtype.kind == "f" else None
    if unsound is not None:
        notices.warn(f"{unsound}; a server refuses such rows")
    if x.dtype == np.uint8:
        if x.max() == 1:
            notices.warn(
                f"{path}: `x` holds uint8 that reaches from 0 to 1, and is divided by 255, as all uint8 is; if 1 "
                "means 1, save x.astype(numpy.float32)"
            )
        elif schema.kind == "tensor":
            notices.note(
                f"{path}: `x` holds uint8, which is divided by 255, as in requests; for other numbers save "
                "x.astype(numpy.float32)"
            )
        rows /= BYTE
        return rows
    if schema.kind == "image":
        _check_picture(rows if unsound is None else rows[np.isfinite(rows)], x.dtype, path, notices)
    return rows


def not_finite(rows: npt.NDArray[np.float32], schema: InputSchema, path: Path) -> str | None:
    """Name the first value of images or tensors that is not finite in float32; None if all are finite."""
    if np.isfinite(rows).all():  # ten times faster than the search for the place
        return None
    _, faults = schema.take(rows)
    row, place = faults[0].row, tuple(map(int, faults[0].place))
    return (
        f"{path}, row {row}, place {list(place)}: the value is {rows[row][place]:g} in float32; a row of kind "
        f"{schema.kind} needs finite numbers: replace the value, or leave the row out"
    )


def _check_picture(rows: npt.NDArray[np.float32], dtype: np.dtype[Any], path: Path, notices: Notices) -> None:
    low, high = float(rows.min(initial=np.inf)), float(rows.max(initial=0))
    if low >= 0 and high <= 1:
        if 0 < high <= 1.01 / BYTE:
            notices.warn(
                f"{path}: image values reach from {low:g} to {high:g}, which looks as if they were divided by 255 "
                "twice; save values in [0, 1], or uint8"
            )
        return
    byte = "x / 255" if dtype.kind == "f" else "x.astype(numpy.uint8)"
    told = f"{path}: image values reach from {low:g} to {high:g}; scale them to [0, 1] or give uint8"
    if low < 0:
        raise Mistake(
            f"{told}; if they were normalised (by a mean and a standard deviation), save them without, and normalise "
            "in the model, or use `kind: tensor`"
        )
    if high <= DARK:
        raise Mistake(
            f"{told}: save {byte} if the largest value that a pixel can have is 255, or x / {high:g} if {high:g} is"
        )
    if high <= BYTE:
        raise Mistake(f"{told}: save {byte}")
    raise Mistake(f"{told}: save x / {65535 if dtype == np.uint16 else f'{high:g}'}")
