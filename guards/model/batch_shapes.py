"""The sizes of batches: a batch is padded to one of a few sizes, so that the same rows give bitwise equal answers."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["bucket", "filled"]

Array = npt.NDArray[Any]


def bucket(rows: int, most: int) -> int:
    """Return the size to which a batch of ``rows`` is padded: the next power of two, if that is at most ``most``.

    >>> bucket(3, 48), bucket(33, 48), bucket(100, 48)
    (4, 48, 100)
    """
    return min(1 << (rows - 1).bit_length(), max(rows, most))


def filled(rows: Array, size: int) -> Array:
    """Repeat the last of the rows (n, ...) until there are ``size`` rows."""
    return rows if len(rows) == size else np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
