"""Metric families over plain arrays, which the hot path adds to in bulk; all their series exist from the start."""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

__all__ = ["PREFIX", "Counters", "Histograms", "Labels", "gauge"]

PREFIX = "guardhouse_"
Labels = tuple[str, ...]


def gauge(name: str, help_text: str, values: Mapping[Labels, float], labels: Sequence[str] = ()) -> Metric:
    """Render a gauge from its value under each tuple of label values."""
    family = GaugeMetricFamily(PREFIX + name, help_text, labels=labels)
    for labelled, value in values.items():
        family.add_metric(labelled, float(value))
    return family


class Counters:
    """One counter with a closed set of label values."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], values: Iterable[Labels]) -> None:
        self.name, self.help, self.labels = name, help_text, tuple(labels)
        self.index = {value: place for place, value in enumerate(values)}
        self.values = np.zeros(len(self.index))
        # Several threads count: without a lock one could write back a value from before the others counted.
        self._lock = threading.Lock()

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count once; labels that are not of the closed set are a mistake of ours, and raise KeyError."""
        place = self.index[labels]
        with self._lock:
            self.values[place] += by

    def total(self, *labels: str) -> float:
        """Give one series, 0 if it is not of the closed set."""
        place = self.index.get(labels)
        return 0.0 if place is None else float(self.values[place])

    def collect(self) -> Metric:
        """Render all series."""
        family = CounterMetricFamily(PREFIX + self.name, self.help, labels=self.labels)
        for labels, place in self.index.items():
            family.add_metric(labels, float(self.values[place]))
        return family


class Histograms:
    """One histogram with a closed set of label values."""

    def __init__(
        self,
        name: str,
        help_text: str,
        bounds: Sequence[float],
        labels: Sequence[str] = (),
        values: Iterable[Labels] = ((),),
    ) -> None:
        self.name, self.help, self.labels = name, help_text, tuple(labels)
        self.bounds = tuple(map(float, bounds))
        self.index = {value: place for place, value in enumerate(values)}
        self.counts = np.zeros((len(self.index), len(self.bounds) + 1), dtype=np.int64)
        self.sums = np.zeros(len(self.index))
        self._lock = threading.Lock()

    def observe(self, value: float, *labels: str) -> None:
        """Add one observation."""
        row, place = self.index[labels], bisect_left(self.bounds, value)
        with self._lock:
            self.counts[row, place] += 1
            self.sums[row] += value

    def total(self, *labels: str) -> tuple[int, float]:
        """Give the number and the sum of one series' observations."""
        row = self.index[labels]
        return int(self.counts[row].sum()), float(self.sums[row])

    def observe_many(self, values: "npt.NDArray[np.float32]", *labels: str) -> None:
        """Add observations (n,) in bulk, leaving out those that are NaN."""
        values = values[~np.isnan(values)]
        row = self.index[labels]
        # Bounds as float32 too: the p-value 1/10 is a float32 just above the float64 0.1, and must count as at it.
        places = np.searchsorted(np.asarray(self.bounds, values.dtype), values, side="left")
        self.counts[row] += np.bincount(places, minlength=len(self.bounds) + 1)
        self.sums[row] += float(values.sum())

    def collect(self) -> Metric:
        """Render all series, cumulative as Prometheus wants them."""
        family = HistogramMetricFamily(PREFIX + self.name, self.help, labels=self.labels)
        limits = [*(f"{bound:g}" if bound < 1 or bound % 1 else f"{bound:.1f}" for bound in self.bounds), "+Inf"]
        for labels, row in self.index.items():
            cumulative = np.cumsum(self.counts[row]).tolist()
            family.add_metric(labels, list(zip(limits, map(float, cumulative), strict=True)), float(self.sums[row]))
        return family
