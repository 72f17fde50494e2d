"""OpenTelemetry: the caller's trace context in, a span for each request and for each of its stages out.

Off unless the standard variables name a collector. A span holds what a line of the log holds: of what a client sent,
its request id and its trace context alone.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from service.exchange import Exchange, Headers

__all__ = ["GRPC", "Tracing", "trace_id_of"]

LOG = logging.getLogger("guardhouse")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
CLOSE_SECONDS = 3.0
"""How long a server that leaves waits for the collector to take what is left."""
GRPC = "gRPC"
"""What an exchange by gRPC has for a method."""
FAULT = 500


class _Fields(Getter["Headers"]):
    """Reads header fields; a trace context that is given twice is none (W3C Trace Context, section 3.2)."""

    def get(self, carrier: "Headers", key: str) -> list[str] | None:
        wanted = (key, key.encode())
        found = [
            value.decode("latin-1") if isinstance(value, bytes) else value for name, value in carrier if name in wanted
        ]
        return None if not found or (key == "traceparent" and len(found) > 1) else found

    def keys(self, carrier: "Headers") -> list[str]:
        return [name.decode("latin-1") if isinstance(name, bytes) else name for name, _ in carrier]


FIELDS = _Fields()
PROPAGATOR = TraceContextTextMapPropagator()


def trace_id_of(exchange: "Exchange") -> str | None:
    """Tell the trace that a request belongs to: its span's, or its caller's where it has no span."""
    span = exchange.span or get_current_span(_remote(exchange.headers))
    context = span.get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None


def _remote(headers: "Headers") -> Context:
    """Read the caller's span; from nothing, or from what is malformed, none."""
    return PROPAGATOR.extract(headers, Context(), FIELDS)


class Tracing:
    """Makes spans, and has them sent in the background: a collector that is slow or down costs spans, no request."""

    def __init__(self, tracer: Tracer, model: str, shutdown: Callable[[], object]) -> None:
        """Make spans by ``tracer``; ``shutdown`` sends those that are left, however long it takes."""
        self.model, self._tracer, self._shutdown = model, tracer, shutdown

    @classmethod
    def from_environment(cls, *, model: str, version: str, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Trace where a collector is named, and nothing says not to; what cannot be done is told, and not traced."""
        endpoint = next(filter(None, map(environment.get, ENDPOINTS)), None)
        off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        if endpoint is None or off or environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
            return None
        protocol = next(filter(None, map(environment.get, PROTOCOLS)), PROTOCOL)
        if protocol != PROTOCOL:
            LOG.warning("nothing is traced: OTEL_EXPORTER_OTLP_PROTOCOL is %s, where this is %s", protocol, PROTOCOL)
            return None
        try:
            from service.collector import connect  # noqa: PLC0415 - what only a traced server needs

            tracer, processor = connect(model=model, version=version)
        except Exception as unfit:  # noqa: BLE001 - the exporter reads files and variables; none of them stops a server
            LOG.warning("nothing is traced: %s", unfit)
            return None
        return cls(tracer, model, processor.shutdown)

    def begin(self, exchange: "Exchange") -> None:
        """Start a request's span, under its caller's where there is one; where it is sampled, note its stages too."""
        grpc = exchange.method == GRPC
        method = exchange.method if grpc or exchange.method in METHODS else "_OTHER"
        where = (
            {"rpc.system": "grpc", "rpc.method": exchange.route.removeprefix("grpc:")}
            if grpc
            else {"http.request.method": method, "http.route": exchange.route}
        )
        exchange.wall = time.time_ns() - time.perf_counter_ns()
        exchange.span = self._tracer.start_span(
            exchange.route if grpc else f"{'HTTP' if method == '_OTHER' else method} {exchange.route}",
            context=_remote(exchange.headers),
            kind=SpanKind.SERVER,
            attributes={
                **where, "guardhouse.model": self.model, "guardhouse.request_id": exchange.request_id,
            },
            start_time=exchange.on_the_wall(exchange.started),
        )  # fmt: skip
        if exchange.span.is_recording():
            exchange.stages = []

    def end(self, exchange: "Exchange", code: int | None, ended: float) -> None:
        """End a request's span, and make those of its stages, at times by ``time.perf_counter``."""
        span = exchange.span
        if span is None or exchange.stages is None:
            return
        within = set_span_in_context(span, Context())
        for stage in exchange.stages:
            rows = None if stage.batch_rows is None else {"guardhouse.batch_rows": stage.batch_rows}
            part = self._tracer.start_span(
                stage.name, within, attributes=rows, start_time=exchange.on_the_wall(stage.start)
            )
            part.end(exchange.on_the_wall(stage.end))
        span.set_attribute("guardhouse.rows", exchange.rows)
        if exchange.action is not None:
            span.set_attribute("guardhouse.action", exchange.action)
        if code is not None:
            span.set_attribute("guardhouse.code" if exchange.method == GRPC else "http.response.status_code", code)
        if code is None or code >= FAULT:
            span.set_status(Status(StatusCode.ERROR))
        span.end(exchange.on_the_wall(ended))

    async def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        last = threading.Thread(target=self._shutdown, name="spans", daemon=True)
        last.start()
        await asyncio.to_thread(last.join, CLOSE_SECONDS)
