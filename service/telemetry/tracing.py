"""Tracing with OpenTelemetry: continues the caller's trace with a span for each request and each of its stages.

Tracing is off unless the standard variables name a collector. A span holds the fields of a log line: of what a client
sent, only the request id and the trace context.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from service.telemetry.trace_context import remote_context

if TYPE_CHECKING:
    from service.telemetry.request_record import Exchange

__all__ = ["GRPC", "Tracing"]

LOG = logging.getLogger("guardhouse")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
CLOSE_SECONDS = 3.0
"""How long a server waits at its end for the collector to take the last spans."""
GRPC = "gRPC"
"""The ``method`` of an exchange over gRPC."""
FAULT = 500


class Tracing:
    """Makes spans that are sent in the background. If the collector is slow or down, only spans are lost."""

    def __init__(self, tracer: Tracer, model: str, shutdown: Callable[[], object]) -> None:
        """Make spans by ``tracer``; ``shutdown`` sends the last spans and may take any time."""
        self.model, self._tracer, self._shutdown = model, tracer, shutdown

    @classmethod
    def from_environment(cls, *, model: str, version: str, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Trace if the variables name a collector and do not disable tracing. If that fails, warn and return None."""
        variable = next((name for name in ENDPOINTS if environment.get(name)), None)
        off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        if variable is None or off or environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
            return None
        protocol = next(filter(None, map(environment.get, PROTOCOLS)), PROTOCOL)
        if protocol != PROTOCOL:
            LOG.warning("nothing is traced: OTEL_EXPORTER_OTLP_PROTOCOL is %s; only %s works", protocol, PROTOCOL)
            return None
        if not _is_address(environment[variable]):
            LOG.warning("nothing is traced: %s is not a URL such as http://collector:4318", variable)
            return None
        for name in HEADERS:
            if any("=" not in pair for pair in environment.get(name, "").split(",") if pair.strip()):
                LOG.warning("%s: a header is not written as NAME=VALUE; such a header is not sent", name)
        try:
            from service.telemetry.otlp import connect  # noqa: PLC0415 - only a server that traces needs it

            tracer, processor = connect(model=model, version=version)
        except Exception as unfit:  # noqa: BLE001 - the exporter reads files and variables; a wrong one must not stop the server
            LOG.warning("nothing is traced: %s; look at the variables that begin with OTEL_", _trouble(unfit))
            return None
        return cls(tracer, model, processor.shutdown)

    def begin(self, exchange: "Exchange") -> None:
        """Start a request's span as a child of the caller's span, if any. If it is sampled, record the stages too."""
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
            context=remote_context(exchange.headers),
            kind=SpanKind.SERVER,
            attributes={
                **where, "guardhouse.model": self.model, "guardhouse.request_id": exchange.request_id,
            },
            start_time=exchange.on_the_wall(exchange.started),
        )  # fmt: skip
        if exchange.span.is_recording():
            exchange.stages = []

    def end(self, exchange: "Exchange", code: int | None, ended: float) -> None:
        """End a request's span and make the spans of its stages; all times are by ``time.perf_counter``."""
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
        """Send the last spans, for at most :data:`CLOSE_SECONDS`."""
        last = threading.Thread(target=self._shutdown, name="spans", daemon=True)
        last.start()
        await asyncio.to_thread(last.join, CLOSE_SECONDS)


def _is_address(url: str) -> bool:
    """Return whether a URL names a collector over HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # for example, the port is no number
        return False


def _trouble(fault: Exception) -> str:
    """Name a fault without its message, which may quote a variable: a URL or a header may hold a password."""
    if isinstance(fault, OSError) and fault.strerror:
        return f"{type(fault).__name__}: {fault.strerror}"
    return type(fault).__name__
