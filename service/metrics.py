"""Everything that Prometheus scrapes: plain arrays that the hot path adds to in bulk, rendered on demand.

The only import of prometheus_client. One process serves one registry, so there is no multiprocess mode; every series
exists from the start, and none is made by what a client sends.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from guards.monitor import Series
from guards.types import Action
from service.answer import Answer
from service.store import Verdict

__all__ = ["Counters", "Histograms", "Metrics", "ModelMetrics"]

PREFIX = "guardhouse_"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, *SECONDS)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
P_VALUES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STAGES = ("decode", "queue", "input_guards", "model", "output_guards", "encode")
SHED = (
    "queue_full",
    "deadline",
    "loading",
    "draining",
    "explain_queue_full",
    "feedback_queue_full",
    "store_down",
    "explain_rate",
)
STORED = ("stored", "repeated", "dropped")
FEEDBACK = ("accepted", "duplicate", "conflicting", "unknown")
EXPLAIN_RESULTS = ("ok", "cached", "refused", "timeout", "crashed", "error")

Labels = tuple[str, ...]


class Counters:
    """One counter with a closed set of label values."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], values: Iterable[Labels]) -> None:
        self.name, self.help, self.labels = name, help_text, tuple(labels)
        self.index = {value: place for place, value in enumerate(values)}
        self.values = np.zeros(len(self.index))

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count once; labels that are not of the closed set are a mistake of ours, and raise KeyError."""
        self.values[self.index[labels]] += by

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

    def observe(self, value: float, *labels: str) -> None:
        """Add one observation."""
        row = self.index[labels]
        self.counts[row, bisect_left(self.bounds, value)] += 1
        self.sums[row] += value

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


class ModelMetrics:
    """What there is to count once a bundle is loaded."""

    def __init__(
        self, guards: Sequence[str], series: Callable[[], Sequence[Series]], device: str, info: Mapping[str, str]
    ) -> None:
        """Make the guards' series; ``series`` gives those of the monitors."""
        names = [(guard,) for guard in guards]
        self.guards, self._series, self.device, self.info = tuple(guards), series, device, dict(info)
        self.rows = Counters(
            "rows", "Rows answered, by what was done to them.", ["action"], [(action.label,) for action in Action]
        )
        self.guard_rows = Counters("guard_rows", "Rows that a guard judged.", ["guard"], names)
        self.guard_flags = Counters("guard_flags", "Rows that a guard flagged.", ["guard"], names)
        self.guard_errors = Counters("guard_errors", "Rows on which a guard crashed.", ["guard"], names)
        self.violations = Counters(
            "guard_violations", "Rows that break a declared bound, which flags whatever the budget.", ["guard"], names
        )
        self.p_value = Histograms(
            "guard_p_value", "P-values of a guard; flat on clean rows.", P_VALUES, ["guard"], names
        )
        self.busy = Counters("device_busy_seconds", "Time the device spent on batches.", ["device"], [(device,)])
        self.batch_rows = Histograms("batch_rows", "Rows in a batch.", BATCH_ROWS)
        self.stored = Counters(
            "store_rows", "Answered rows: stored, not stored as their id was there already, or dropped.", ["result"],
            [(result,) for result in STORED],
        )  # fmt: skip
        self.store_down: Callable[[], bool] = lambda: False
        self.feedback = Counters("feedback", "Outcomes received.", ["result"], [(result,) for result in FEEDBACK])

    def judged(self, verdict: Verdict) -> None:
        """Count outcomes that were stored, or that were stored before."""
        for result in ("accepted", "duplicate", "conflicting"):
            self.feedback.add(result, by=len(getattr(verdict, result)))

    def observe(self, answer: Answer, seconds: float) -> None:
        """Count one batch."""
        actions = np.bincount(answer.action, minlength=len(Action))
        self.rows.values += actions
        self.busy.values[0] += seconds
        self.batch_rows.observe(len(answer))
        crashed = np.isnan(answer.p_value)
        self.guard_errors.values += crashed.sum(0)
        self.guard_rows.values += (~crashed).sum(0)
        self.guard_flags.values += answer.flagged.sum(0)
        if answer.violated is not None:
            self.violations.values += answer.violated.sum(0)
        for index, guard in enumerate(self.guards):
            self.p_value.observe_many(answer.p_value[:, index], guard)

    def collect(self) -> Iterator[Metric]:
        """Render everything."""
        for family in (
            self.rows, self.guard_rows, self.guard_flags, self.guard_errors, self.violations, self.busy,
            self.stored, self.feedback,
        ):  # fmt: skip
            yield family.collect()
        down = GaugeMetricFamily(PREFIX + "store_down", "1 while the database cannot be reached.")
        down.add_metric([], float(self.store_down()))
        yield down
        yield self.p_value.collect()
        yield self.batch_rows.collect()
        info = GaugeMetricFamily(PREFIX + "build_info", "What is being served.", labels=list(self.info))
        info.add_metric(list(self.info.values()), 1.0)
        yield info
        yield from self._monitors()

    def _monitors(self) -> Iterator[Metric]:
        """Render the monitors' own series, those of one metric together; what two monitors count is there once."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        there: set[tuple[str, ...]] = set()
        for series in self._series():
            key = (series.metric, *series.labels.values())
            if key in there:
                continue
            there.add(key)
            family = families.get(series.metric)
            if family is None:
                kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
                help_text = f"{series.metric.replace('_', ' ').removesuffix(' total').capitalize()}."
                family = kind(PREFIX + series.metric.removesuffix("_total"), help_text, labels=list(series.labels))
                families[series.metric] = family
            family.add_metric(list(series.labels.values()), series.value)
        yield from families.values()


class Metrics(Collector):
    """The process's registry: the server's own series at once, the model's once it is loaded."""

    def __init__(self, routes: Mapping[str, Sequence[int]], methods: Sequence[str]) -> None:
        """Make the series; ``routes`` gives each route template's possible codes, ``methods`` the explainers."""
        self.model: ModelMetrics | None = None
        self.inflight = 0
        self.queue_rows: Callable[[], int] = lambda: 0
        self.requests = Counters(
            "requests",
            "Requests answered, by route template and code.",
            ["route", "code"],
            [(route, str(code)) for route, codes in routes.items() for code in codes],
        )
        self.duration = Histograms(
            "request_duration_seconds", "From the first byte read to the last written.", SECONDS, ["route"],
            [(route,) for route in routes],
        )  # fmt: skip
        self.stages = Histograms(
            "stage_duration_seconds", "Time in a stage, once a request or once a batch.", STAGE_SECONDS, ["stage"],
            [(stage,) for stage in STAGES],
        )  # fmt: skip
        self.shed = Counters(
            "shed_requests", "Requests refused to protect the others.", ["reason"], [(r,) for r in SHED]
        )
        self.explanations = Counters(
            "explanations", "Explanations asked for.", ["method", "result"], list(product(methods, EXPLAIN_RESULTS))
        )
        self.explain_duration = Histograms(
            "explain_duration_seconds", "Time to explain a request.", SECONDS, ["method"], [(m,) for m in methods]
        )
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def describe(self) -> list[Metric]:
        """Leave names unregistered: they are known only once a model is loaded."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Render everything."""
        for family in (self.requests, self.shed, self.explanations):
            yield family.collect()
        for histogram in (self.duration, self.stages, self.explain_duration):
            yield histogram.collect()
        for name, help_text, value in (
            ("inflight_requests", "Requests being answered now.", self.inflight),
            ("queue_rows", "Rows waiting for the device.", self.queue_rows()),
        ):
            gauge = GaugeMetricFamily(PREFIX + name, help_text)
            gauge.add_metric([], float(value))
            yield gauge
        if self.model is not None:
            yield from self.model.collect()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Write the exposition in the format that the scraper asks for."""
        try:
            encoder, content_type = choose_encoder(accept)
        except TypeError:  # a version that is no number
            encoder, content_type = choose_encoder("")
        return encoder(self.registry), content_type
