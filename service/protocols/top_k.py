"""``top_k``: how many labels of each row an answer names, and which."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from guards.faults import describe

__all__ = [
    "ALL",
    "BINARY_BYTES",
    "NUMBER_BYTES",
    "SHOWN",
    "TOP_K",
    "most_likely",
    "read_top_k",
    "refusal",
    "text_bytes",
]

TOP_K, ALL = "top_k", "all"
SHOWN = 100
"""How many labels of each row are named by default. Models with at most so many labels name all labels."""
MOST_BYTES = 32 * 1024 * 1024
"""The largest size of one answer's labels and probabilities, if the model has more than :data:`SHOWN` labels."""
NUMBER_BYTES, BINARY_BYTES = 20, 4
"""The size of a probability in JSON and in binary data."""
JSON_TEXT_BYTES = 4
"""What JSON adds to a label: two quotes, a colon and a comma."""


def read_top_k(value: object, labels: int) -> int | None:
    """Read a request's ``top_k`` for a model with ``labels`` labels: at most ``labels``, or None for `all`.

    Raises:
        ValueError: ``top_k`` is neither a whole number from 1 up nor `all`, or the model has no labels.
    """
    if not labels:
        raise ValueError(f"the model answers a value and has no labels: leave `{TOP_K}` out")
    if value == ALL:
        return None
    if type(value) is not int or value < 1:
        raise ValueError(f'expected a whole number from 1 up, or "{ALL}", got {describe(value)}')
    return min(value, labels)


@lru_cache(8)
def text_bytes(labels: tuple[str, ...]) -> int:
    """Give the mean size of a label in JSON."""
    return JSON_TEXT_BYTES + math.ceil(sum(len(label.encode()) for label in labels) / len(labels))


def refusal(rows: int, shown: int, labels: int, each: int) -> str | None:
    """Say that ``shown`` of ``labels`` labels per row, of ``each`` bytes, make too large an answer; else None."""
    if labels <= SHOWN or rows * shown * each <= MOST_BYTES:
        return None
    few = MOST_BYTES // (shown * each)
    fewer = f"send at most {few} rows, or " if few else ""
    return (
        f"{shown} labels of each of {rows} rows make an answer of more than {MOST_BYTES // 1024**2} MiB: "
        f"{fewer}ask for fewer labels with `{TOP_K}`"
    )


def most_likely(probabilities: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.int64]:
    """Find the ``count`` largest of each row of ``probabilities`` (n, k), the largest first: indices (n, count).

    Of equal probabilities the first comes first, also if some of them are cut off; NaN come last. The answered label,
    the first of the largest, is therefore always named, and always first. No row is sorted whole.
    """
    values = np.where(np.isnan(probabilities), -np.inf, probabilities)
    rows, labels = values.shape
    if count < labels:
        least = np.partition(values, labels - count, axis=1)[:, labels - count, None]
        above, level = values > least, values == least
        room = count - above.sum(1, keepdims=True)
        crowded = np.flatnonzero(level.sum(1) > room[:, 0])
        level[crowded] &= np.cumsum(level[crowded], axis=1) <= room[crowded]
        chosen = np.nonzero(above | level)[1].reshape(rows, count)
    else:
        chosen = np.broadcast_to(np.arange(labels), values.shape)
    order = np.argsort(-np.take_along_axis(values, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)
