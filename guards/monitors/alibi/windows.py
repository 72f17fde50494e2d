"""Cuts a stream of rows into windows of a fixed size, and encodes columns for tests that take only finite numbers."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Windows", "dense", "separate"]

Array = npt.NDArray[np.float32]
WAITING = 2
REACH = 10.0
NEGLIGIBLE = 0.01
EXPECTED = 5.0
"""The least expected count of a category in a chi-squared test (Cochran 1954)."""


class Windows:
    """Makes a window of the last ``size`` rows at every ``every``-th row, however the rows are batched.

    A few windows wait to be taken. If too many wait, the oldest window is dropped and counted in ``dropped``. One
    thread may add rows while another thread takes windows.
    """

    def __init__(self, size: int, every: int) -> None:
        self.size, self.every = size, every
        self.rows = self.dropped = 0
        self.waiting: deque[Array] = deque()
        self._ring: Array = np.empty((0, 0), np.float32)

    def add(self, rows: Array) -> Iterator[None]:
        """Add rows (n, d), and yield each time a new window waits."""
        if not len(self._ring):
            self._ring = np.empty((self.size, rows.shape[1]), np.float32)
        while len(rows):
            fresh, rows = np.split(rows, [self.every - self.rows % self.every])
            kept = fresh[-self.size :]
            places = np.arange(self.rows + len(fresh) - len(kept), self.rows + len(fresh)) % self.size
            self._ring[places] = kept
            self.rows += len(fresh)
            if self.rows % self.every == 0 and self.rows >= self.size:
                while len(self.waiting) >= WAITING:
                    self.waiting.popleft()
                    self.dropped += 1
                self.waiting.append(np.roll(self._ring, -(self.rows % self.size), axis=0))
                yield


def dense(rows: Array, reference: Array, categories: Sequence[int], *, gaps: bool) -> Array:
    """Make rows (n, d) comparable by distance: scaled numbers, and 0 or 1 for each category.

    ``categories`` holds each column's number of categories, 0 for a numeric column. With ``gaps`` each numeric column
    has an additional column that marks missing values. In ``rows`` an unseen category is negative, a missing one NaN.
    """
    numeric = [i for i, count in enumerate(categories) if not count]
    values, known = _tame(rows[:, numeric], reference[:, numeric]), _tame(reference[:, numeric], reference[:, numeric])
    variance = known.var(0, dtype=np.float64)
    # Without the second term, a column that hardly varies would outweigh all other columns.
    scale = np.sqrt(variance + NEGLIGIBLE**2 * (variance.mean() if numeric else 0.0))
    parts = [(values - known.mean(0, dtype=np.float64)) / np.where(scale > 0, scale, 1.0)]
    if gaps:
        parts.append(np.isnan(rows[:, numeric]))
    parts += [_codes(rows[:, i], count)[:, None] == np.arange(count + 2) for i, count in enumerate(categories) if count]
    encoded: Array = np.concatenate(parts, axis=1).astype(np.float32)
    return encoded


def separate(rows: Array, reference: Array, categories: Sequence[int], *, gaps: bool, window: int) -> Array:
    """Make rows (n, d) comparable column by column; with ``gaps`` each numeric column has an additional column.

    The additional columns mark missing values, and come last. Categories with an expected count below five in
    ``window`` rows are pooled.
    """
    columns = [
        _pooled(rows[:, i], reference[:, i], count, window) if count else _tame(rows[:, [i]], reference[:, [i]])[:, 0]
        for i, count in enumerate(categories)
    ]
    if gaps:
        columns += [np.isnan(rows[:, i]) for i, count in enumerate(categories) if not count]
    encoded: Array = np.stack(columns, axis=1).astype(np.float32)
    return encoded


def _tame(rows: Array, reference: Array) -> npt.NDArray[np.float64]:
    """Fill gaps with the reference's median, and clip values that lie very far outside the reference's range."""
    known = np.where(np.isfinite(reference), reference, np.nan).astype(np.float64)
    known[:, np.isnan(known).all(0)] = 0.0
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
    reach = REACH * (high - low)
    reach = np.maximum(reach, max(NEGLIGIBLE * float(reach.mean()), NEGLIGIBLE)) if reach.size else reach
    filled = np.where(np.isnan(rows), np.nanmedian(known, axis=0), rows)
    return np.clip(filled, low - reach, high + reach)


def _codes(values: Array, count: int) -> npt.NDArray[np.int64]:
    codes = np.where(values < 0, count, np.nan_to_num(values, nan=count + 1))
    return codes.astype(np.int64)


def _pooled(values: Array, reference: Array, count: int, window: int) -> npt.NDArray[np.int64]:
    expected = np.bincount(_codes(reference, count), minlength=count + 2) / len(reference) * window
    codes = _codes(values, count)
    return np.where(expected[codes] < EXPECTED, count + 2, codes)
