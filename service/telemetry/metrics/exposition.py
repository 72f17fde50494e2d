"""Renders the metrics in a front: the counters of all processes, and the engine's own families.

No other module imports prometheus_client. Every front renders the same metrics.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import cast

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.messages.board import Board
from service.messages.refused import Refused
from service.single_flight import SingleFlight
from service.telemetry.metrics.families import Counters, Histograms
from service.telemetry.metrics.plain_families import FamiliesFile, Family, number
from service.telemetry.metrics.process_figures import server_figures
from service.telemetry.metrics.server_counts import ServerCounts, ServerTotals

__all__ = ["PREFIX", "Exposition", "family_of", "metric_families", "write"]

LOG = logging.getLogger("guardhouse")
PREFIX = "guardhouse_"
ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")
FORMATS = {
    content_type: encoder
    for encoder, content_type in map(
        choose_encoder,
        [
            "",
            "application/openmetrics-text",
            *(f"{kind};version=1.0.0;escaping={escaping}" for escaping in ESCAPINGS
              for kind in ("text/plain", "application/openmetrics-text")),
        ],
    )
}  # fmt: skip
"""The encoder of each format by its media type. The list is closed, so a client cannot make up formats."""
PLAIN, OPENMETRICS = list(FORMATS)[:2]
ANSWER_SECONDS = 5.0
"""How long the engine may take to give its families. By default, Prometheus cancels a scrape after 10 seconds."""
ORDER = (
    "requests", "shed_requests", "explanations", "redis_errors", "query_store_errors",
    "request_duration_seconds", "stage_duration_seconds",
    "explain_duration_seconds", "inflight_requests", "concurrency_limit", "connections", "queue_rows",
    "self_test_passed", "rows",
    "rows_abstained_on_purpose", "guard_rows",
    "guard_flags", "guard_errors", "guard_skipped", "guard_violations", "monitor_skipped_rows",
    "device_busy_seconds", "store_rows", "store_deleted_rows",
    "feedback", "store_down", "store_files_lost", "store_max_bytes", "store_bytes",
    "store_oldest_row_timestamp_seconds", "guard_p_value", "batch_rows",
)  # fmt: skip
"""The order of the first families; the engine's other families follow as the engine gives them."""


class Exposition:
    """Renders the metrics of the server in a front."""

    def __init__(
        self,
        board: Board,
        routes: Mapping[str, Sequence[int]],
        guards: Sequence[str],
        methods: Sequence[str],
        *,
        monitors: Sequence[str] = (),
        ask: Callable[[], Awaitable[Sequence[Mapping[str, object]]]],
        file: FamiliesFile,
    ) -> None:
        """Prepare to render.

        Args:
            board: the server's board.
            routes: the possible codes of each route's template, as every front counts them.
            guards: the names of all guards, as the engine counts them.
            methods: the names of the explanation methods that the config allows.
            monitors: the names of all monitors.
            ask: asks the engine for its families (:meth:`service.front.engine_client.EngineClient.metrics`).
            file: the file with the families that the engine gave to a front last.
        """
        self._board, self._routes, self._guards, self._methods = board, routes, guards, methods
        self._monitors, self._ask, self._file = tuple(monitors), ask, file
        self._wanted: set[str] = set()
        """The media types in which the rendering that waits will be written."""
        self._rendering = SingleFlight(self._render)

    def counts(self) -> ServerCounts:
        """Give the counters of the whole server now."""
        return ServerCounts.of(self._board, self._routes, self._guards, self._methods, self._monitors)

    def totals(self) -> ServerTotals:
        """Give the counters of the whole server now, by name; this takes one or two milliseconds."""
        return ServerTotals(self.counts())

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Write the metrics in the format that the scraper asks for; return the bytes and the media type.

        Scrapes that come while a rendering goes on share the next rendering. If the engine does not answer, its latest
        families are written, and ``self_test_passed`` is 0.
        """
        content_type = _media_type(accept)
        self._wanted.add(content_type)
        return (await self._rendering())[content_type], content_type

    async def _render(self) -> Mapping[str, bytes]:
        wanted, self._wanted = self._wanted, set()
        families: Sequence[Family] | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                families = cast("Sequence[Family]", await self._ask())
        except (Refused, TimeoutError) as trouble:
            LOG.debug("the engine gives no metrics: %s", trouble)
        return await asyncio.to_thread(self._write, families, wanted)

    def _write(self, families: Sequence[Family] | None, wanted: Iterable[str]) -> Mapping[str, bytes]:
        answered = families is not None
        known = families if answered else self._file.read()
        found = metric_families(
            self.counts(),
            known,
            inflight=self._board.in_flight,
            concurrency_limit=self._board.concurrency_limit,
            connections=self._board.connections,
            queue_rows=self._board.queued_rows,
            passed=answered,
        )
        found += [_plain(family, "") for family in server_figures(self._board)]
        return {content_type: _encoded(found, content_type) for content_type in wanted}


def metric_families(
    counts: ServerCounts,
    families: Sequence[Family] | None,
    *,
    inflight: int = 0,
    concurrency_limit: float = 0.0,
    connections: int = 0,
    queue_rows: int = 0,
    passed: bool = False,
) -> list[Metric]:
    """Give every family of the server. Without ``families`` of the engine, the model's families are left out."""
    front, engine = counts.front, counts.engine
    found = [
        *_families(front.requests, front.shed, engine.explanations, engine.redis_errors, engine.query_store_errors),
        *_families(front.duration, counts.stages, engine.explain_duration),
        _gauge("inflight_requests", "Requests being answered now, scrapes aside.", inflight),
        _gauge("concurrency_limit", "Predictions that may be answered at one time.", concurrency_limit),
        _gauge("connections", "Open HTTP connections.", connections),
        _gauge("queue_rows", "Rows waiting for the device.", queue_rows),
        _gauge("self_test_passed", "1 once the model is loaded and gave the known verdicts on the known rows.", passed),
    ]
    if families is not None:
        found += _families(
            engine.rows, engine.on_purpose, engine.guard_rows, engine.guard_flags, engine.guard_errors,
            engine.guard_skipped, engine.violations, engine.skipped, engine.stored, engine.store_deleted,
            engine.feedback, engine.files_lost, engine.p_value, engine.batch_rows,
        )  # fmt: skip
        found += [_plain(family) for family in families]
    places = {PREFIX + name: place for place, name in enumerate(ORDER)}
    return sorted(found, key=lambda family: places.get(family.name, len(ORDER)))


def write(families: Sequence[Metric], accept: str) -> tuple[bytes, str]:
    """Write families in the format that a scraper asks for; return the bytes and the media type."""
    content_type = _media_type(accept)
    return _encoded(families, content_type), content_type


def _media_type(accept: str) -> str:
    """Choose the media type for a scraper, among the known formats."""
    try:
        _, content_type = choose_encoder(accept)
    except TypeError:  # the header asks for a version that is not a number
        return PLAIN
    return content_type if content_type in FORMATS else OPENMETRICS if "openmetrics" in content_type else PLAIN


def _encoded(families: Sequence[Metric], content_type: str) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return FORMATS[content_type](registry)


def _families(*counted: Counters | Histograms) -> list[Metric]:
    return [family_of(each) for each in counted]


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        """Register no names, because the registry has only this collector."""
        return []

    def collect(self) -> Iterable[Metric]:
        return self._families


def family_of(counted: Counters | Histograms) -> Metric:
    """Turn one family into prometheus_client's form."""
    return _counter(counted) if isinstance(counted, Counters) else _histogram(counted)


def _counter(counters: Counters) -> Metric:
    family = CounterMetricFamily(PREFIX + counters.name, counters.help, labels=counters.labels)
    for labels, value in zip(counters.index, counters.values.tolist(), strict=True):
        family.add_metric(labels, value)
    return family


def _histogram(histograms: Histograms) -> Metric:
    """Turn a histogram into cumulative buckets, as Prometheus expects them."""
    family = HistogramMetricFamily(PREFIX + histograms.name, histograms.help, labels=histograms.labels)
    limits = [*(f"{bound:g}" if bound < 1 or bound % 1 else f"{bound:.1f}" for bound in histograms.bounds), "+Inf"]
    cumulative = np.cumsum(histograms.counts, axis=1).tolist()
    for labels, counts, total in zip(histograms.index, cumulative, histograms.sums.tolist(), strict=True):
        family.add_metric(labels, list(zip(limits, counts, strict=True)), total)
    return family


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, help_text, value=float(value))


def _plain(family: Family, prefix: str = PREFIX) -> Metric:
    kind = CounterMetricFamily if family["kind"] == "counter" else GaugeMetricFamily
    found = kind(prefix + family["name"], family["help"], labels=list(family["labels"]))
    for labels, value in family["samples"]:
        found.add_metric(list(labels), number(value))
    return found
