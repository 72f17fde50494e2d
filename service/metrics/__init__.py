"""Everything that Prometheus scrapes: plain arrays that the hot path adds to in bulk, rendered on demand.

The only import of prometheus_client. One process serves one registry, so there is no multiprocess mode; every series
exists from the start, and none is made by what a client sends.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.metrics.families import Counters, Histograms, gauge
from service.metrics.model import ModelMetrics, Promises

__all__ = ["STAGES", "Metrics", "ModelMetrics", "Promises"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, *SECONDS)
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
EXPLAIN_RESULTS = ("ok", "cached", "refused", "timeout", "crashed", "error")


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
        self.redis_errors = Counters(
            "redis_errors", "Questions that Redis did not answer, and this replica answered alone.", [], [()]
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
        for family in (self.requests, self.shed, self.explanations, self.redis_errors):
            yield family.collect()
        for histogram in (self.duration, self.stages, self.explain_duration):
            yield histogram.collect()
        yield gauge("inflight_requests", "Requests being answered now, scrapes aside.", {(): self.inflight})
        yield gauge("queue_rows", "Rows waiting for the device.", {(): self.queue_rows()})
        loaded = "1 once the model is loaded and gave the known verdicts on the known rows."
        yield gauge("self_test_passed", loaded, {(): self.model is not None})
        if self.model is not None:
            yield from self.model.collect()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Write the exposition in the format that the scraper asks for."""
        try:
            encoder, content_type = choose_encoder(accept)
        except TypeError:  # a version that is no number
            encoder, content_type = choose_encoder("")
        return encoder(self.registry), content_type
