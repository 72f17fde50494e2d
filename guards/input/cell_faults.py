"""Finds values that cannot become numbers, and describes each one: its place in the row, and a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "LARGEST",
    "NOT_FINITE",
    "NUMBERS",
    "Fault",
    "as_floats",
    "describe",
    "first_fault",
    "first_in_rows",
    "some_of",
]

NUMBERS = frozenset({int, float})
LARGEST = float(np.finfo(np.float32).max)
SHOWN_NAMES = 10
NOT_FINITE = "NaN, Infinity and numbers beyond float32 are no values; a missing value is null"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot become numbers: the row's index, the place inside the row, and a sentence."""

    row: int
    place: tuple[str | int, ...]
    message: str


def first_in_rows(bad: npt.NDArray[np.bool_]) -> list[tuple[int, tuple[int, ...]]]:
    """List the rows of a mask (n, ...) that have a true entry, each with the place of its first true entry."""
    flat = bad.reshape(len(bad), -1)
    firsts = np.unravel_index(flat.argmax(1), bad.shape[1:] or (1,))
    return [
        (row, tuple(int(axis[row]) for axis in firsts) if bad.ndim > 1 else ())
        for row in np.flatnonzero(flat.any(1)).tolist()
    ]


def describe(value: object) -> str:
    """Name a wrong value by its JSON type; show a short value, and give the length of a long string.

    >>> describe("seven"), describe("x" * 512), describe([7])
    ("a string: 'seven'", 'a string of 512 characters', 'a list')
    """
    names: dict[type, str] = {
        bool: "a boolean", str: "a string", list: "a list", dict: "an object", type(None): "null",
        int: "a number", float: "a number",
    }  # fmt: skip
    name = names.get(type(value), type(value).__name__)
    if isinstance(value, str | bool | int | float) and len(str(value)) <= 40:  # noqa: PLR2004
        return f"{name}: {value!r}"
    return f"a string of {len(value)} characters" if isinstance(value, str) else name


def some_of(names: Sequence[str]) -> list[str]:
    """List names for a sentence; of more than ten names, the first ten and the number of all.

    >>> some_of(["a", "b"]), some_of([str(i) for i in range(1000)])[8:]
    (['a', 'b'], ['8', '9', '... (1000)'])
    """
    return list(names) if len(names) <= SHOWN_NAMES else [*names[:SHOWN_NAMES], f"... ({len(names)})"]


def as_floats(values: Sequence[object]) -> npt.NDArray[np.float64]:
    """Convert ints and floats; an int beyond float64 becomes infinite, which a later check reports as a fault."""
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([np.inf if abs(value) > LARGEST else value for value in values], dtype=np.float64)  # type: ignore[arg-type]


def first_fault(
    value: object, shape: tuple[int, ...], place: tuple[int, ...]
) -> tuple[tuple[str | int, ...], str] | None:
    """Find the first place at which a value is no nested list of numbers of ``shape``, and the reason; else None."""
    if not shape:
        if type(value) not in NUMBERS:
            return place, f"expected a number, got {describe(value)}"
        return None if abs(value) <= LARGEST else (place, NOT_FINITE)  # type: ignore[arg-type]
    if not isinstance(value, list):
        return place, f"expected a list of {shape[0]}, got {describe(value)}"
    if len(value) != shape[0]:
        return place, f"expected a list of {shape[0]}, got one of {len(value)}"
    for index, inner in enumerate(value):
        fault = first_fault(inner, shape[1:], (*place, index))
        if fault is not None:
            return fault
    return None
