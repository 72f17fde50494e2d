"""Sends spans to a collector with the OpenTelemetry SDK over OTLP/HTTP; imported only if tracing is on."""

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Tracer

from guards.version import __version__

__all__ = ["Collector", "connect"]

LOG = logging.getLogger("guardhouse")


class Collector(OTLPSpanExporter):
    """Sends spans to a collector, and logs how many spans the collector did not take."""

    def __init__(self) -> None:
        super().__init__(meter_provider=NoOpMeterProvider())
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch of spans; only the SDK's own thread waits for this."""
        try:
            result = super().export(spans)
        except Exception as fault:  # noqa: BLE001 - the SDK would log the message, which may quote the collector's URL
            LOG.warning("spans cannot be sent: %s", type(fault).__name__)
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self.lost += len(spans)
            LOG.warning("the collector of traces does not take them: %d spans are lost so far", self.lost)
        return result


def connect(*, model: str, version: str) -> tuple[Tracer, BatchSpanProcessor]:
    """Make a tracer whose spans are sent in the background; the standard variables set sampler, limits and name.

    The global tracer provider is not set: BentoML has a provider of its own, which stays off.

    Raises:
        ValueError: one of the variables has a value that the SDK does not accept.
    """
    silent = NoOpMeterProvider()
    processor = BatchSpanProcessor(Collector(), meter_provider=silent)
    service = Resource.create({"service.name": "guardhouse", "service.version": __version__})
    told = Resource({"guardhouse.model": model, "guardhouse.model_version": version})
    provider = TracerProvider(
        resource=service.merge(OTELResourceDetector().detect()).merge(told),
        shutdown_on_exit=False,
        meter_provider=silent,
    )
    provider.add_span_processor(processor)
    return provider.get_tracer("guardhouse", __version__), processor
