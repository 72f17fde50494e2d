"""How many labels of each row an answer names, and which: of a model with thousands nobody reads them all."""

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
"""Labels of a row that are named if nobody asks for more or fewer. A model with no more of them is answered whole."""
MOST_BYTES = 32 * 1024 * 1024
"""How large the labels and probabilities of one answer may be, of a model with more than :data:`SHOWN` labels."""
NUMBER_BYTES, BINARY_BYTES = 20, 4
"""What a probability takes in JSON, and as binary data."""
JSON_TEXT_BYTES = 4
"""What a label takes in JSON besides itself: two quotes, a colon and a comma."""


def read_top_k(value: object, labels: int) -> int | None:
    """Read a request's ``top_k`` of a model with so many ``labels``: at most that many, or None for `all`.

    Raises:
        ValueError: it is no number from 1 up and not `all`, or the model has no labels.
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
    """Give what a label takes in JSON, on average."""
    return JSON_TEXT_BYTES + math.ceil(sum(len(label.encode()) for label in labels) / len(labels))


def refusal(rows: int, shown: int, labels: int, each: int) -> str | None:
    """Say why ``shown`` of so many ``labels`` of each row, of ``each`` bytes, make too large an answer; else None."""
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

    Of equal ones the first comes first, also where the last of them are cut off; NaN come last. So the label that is
    answered, which is the first of the largest, is always there and always leads. No row is sorted whole.
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
