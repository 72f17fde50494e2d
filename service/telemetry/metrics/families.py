"""Counters and histograms in plain arrays in a seat of the board. All their series exist from the start.

If a process dies, the process that takes its seat continues from the same arrays. This module renders nothing, so the
engine does not need prometheus_client.
"""

import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from service.messages.seat import cells

__all__ = ["Counters", "Histograms", "Labels", "checksum"]

Floats = npt.NDArray[np.float64]
Labels = tuple[str, ...]
Take = Callable[[int | tuple[int, ...]], Floats]
"""Returns an array of a given shape: :meth:`service.messages.seat.Seat.take`, or numpy's ``zeros``."""


class Counters:
    """One counter with a closed set of label values.

    Only one thread may count, unless ``locked`` is true. Without the lock, one thread could overwrite the count of
    another thread.
    """

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        values: Iterable[Labels],
        *,
        take: Take = np.zeros,
        locked: bool = False,
    ) -> None:
        self.name, self.help, self.labels = name, help_text, tuple(labels)
        self.index = {value: place for place, value in enumerate(values)}
        self.values = take(len(self.index))
        self._cells = cells(self.values)
        self._lock = threading.Lock() if locked else None

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Add ``by`` to a series.

        Raises:
            KeyError: the label values are not in the closed set; this is an error in the server's code.
        """
        if self._lock is None:
            self._cells[self.index[labels]] += by
            return
        place = self.index[labels]
        with self._lock:
            self._cells[place] += by

    def total(self, *labels: str) -> float:
        """Give the value of one series; 0 if the label values are not in the closed set."""
        place = self.index.get(labels)
        return 0.0 if place is None else float(self.values[place])

    def clear(self) -> None:
        """Set every series to 0."""
        self.values[:] = 0

    @property
    def layout(self) -> str:
        """What the places in the array mean."""
        return repr((self.name, tuple(self.index)))


class Histograms:
    """One histogram with a closed set of label values: ``counts`` (n, bounds + 1), not cumulative; ``sums`` (n,)."""

    def __init__(
        self,
        name: str,
        help_text: str,
        bounds: Sequence[float],
        labels: Sequence[str] = (),
        values: Iterable[Labels] = ((),),
        *,
        take: Take = np.zeros,
    ) -> None:
        self.name, self.help, self.labels = name, help_text, tuple(labels)
        self.bounds = tuple(map(float, bounds))
        self.index = {value: place for place, value in enumerate(values)}
        self._width = len(self.bounds) + 1
        self._all = take(len(self.index) * self._width)
        self.counts = self._all.reshape(len(self.index), self._width)
        self.sums = take(len(self.index))
        self._count_cells, self._sum_cells = cells(self._all), cells(self.sums)
        # The bounds as float32. The p-value 1/10 as float32 is slightly more than 0.1 as float64, but it has to be
        # counted in the bucket of the bound 0.1.
        self._bounds32 = np.asarray(self.bounds, np.float32)
        self._first = np.arange(len(self.index)) * self._width

    def observe(self, value: float, *labels: str) -> None:
        """Add one observation; only one thread may do this.

        Raises:
            KeyError: the label values are not in the closed set; this is an error in the server's code.
        """
        row = self.index[labels]
        self._count_cells[row * self._width + bisect_left(self.bounds, value)] += 1
        self._sum_cells[row] += value

    def observe_columns(self, values: npt.NDArray[np.float32]) -> None:
        """Add observations (n, series), one column for each series in the order of the index; NaN is not counted."""
        seen = ~np.isnan(values)
        places = np.searchsorted(self._bounds32, values, side="left") + self._first
        self._all += np.bincount(places[seen], minlength=self._all.size)
        self.sums += np.where(seen, values, 0).sum(0, dtype=np.float64)

    def total(self, *labels: str) -> tuple[int, float]:
        """Give the number and the sum of the observations of one series.

        Raises:
            KeyError: the label values are not in the closed set.
        """
        row = self.index[labels]
        return int(self.counts[row].sum()), float(self.sums[row])

    def clear(self) -> None:
        """Set every series to 0."""
        self._all[:], self.sums[:] = 0, 0

    @property
    def layout(self) -> str:
        """What the places in the arrays mean."""
        return repr((self.name, self.bounds, tuple(self.index)))


def checksum(families: Iterable[Counters | Histograms]) -> float:
    """Give a checksum of the order, the names and the labels of families; it is never 0.

    If two checksums are equal, the families have the same places in a seat.
    """
    return 1.0 + zlib.crc32("\n".join(family.layout for family in families).encode())
