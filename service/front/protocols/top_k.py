"""The parameter ``top_k``: how many labels of each row an answer names, and which labels these are."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from guards.input.cell_faults import describe

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
"""How many labels of each row are named by default. A model with no more labels than that names all labels."""
MOST_BYTES = 32 * 1024 * 1024
"""The most bytes of one answer's labels and probabilities, if the model has more than :data:`SHOWN` labels."""
NUMBER_BYTES, BINARY_BYTES = 20, 4
"""The size of a probability in bytes: about 20 in JSON, 4 in binary data."""
JSON_TEXT_BYTES = 4
"""The bytes that JSON adds to a label: two quotes, a colon and a comma."""


def read_top_k(value: object, labels: int) -> int | None:
    """Read the ``top_k`` of a request to a model with ``labels`` labels; return at most ``labels``, or None for `all`.

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
    """Return the mean bytes of a label in JSON, rounded up."""
    return JSON_TEXT_BYTES + math.ceil(sum(len(label.encode()) for label in labels) / len(labels))


def refusal(rows: int, shown: int, labels: int, each: int) -> str | None:
    """Return why ``rows`` rows of ``shown`` labels are too large an answer; None if they are not.

    Args:
        rows: the rows of the answer.
        shown: how many labels of each row are named.
        labels: how many labels the model has.
        each: the bytes of a label with its probability.
    """
    if labels <= SHOWN or rows * shown * each <= MOST_BYTES:
        return None
    few = MOST_BYTES // (shown * each)
    fewer = f"send at most {few} rows, or " if few else ""
    return (
        f"{shown} labels of each of {rows} rows make an answer of more than {MOST_BYTES // 1024**2} MiB: "
        f"{fewer}ask for fewer labels with `{TOP_K}`"
    )


def most_likely(probabilities: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.int64]:
    """Return the indices (n, count) of the ``count`` largest of each row of ``probabilities`` (n, k), largest first.

    Equal probabilities keep their order, also at the cut; NaN come last. The answered label is the first of the
    largest, so it is always named first. No row is sorted whole: that would be slow with many labels.
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
