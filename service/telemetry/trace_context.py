"""Reads the trace that a request belongs to from its header fields (W3C Trace Context)."""

from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["Headers", "remote_context", "trace_id_of"]

Headers = Iterable[tuple[bytes | str, bytes | str]]
"""Header fields, names with values, as the transport has them: bytes for HTTP, strings for gRPC."""


class _Fields(Getter[Headers]):
    """Reads header fields. If a trace context is given twice, it is ignored (W3C Trace Context, section 3.2)."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = (key, key.encode())
        found = [
            value.decode("latin-1") if isinstance(value, bytes) else value for name, value in carrier if name in wanted
        ]
        return None if not found or (key == "traceparent" and len(found) > 1) else found

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") if isinstance(name, bytes) else name for name, _ in carrier]


FIELDS = _Fields()
PROPAGATOR = TraceContextTextMapPropagator()


def remote_context(headers: Headers) -> Context:
    """Read the caller's span; the context is empty if the header fields name no span or a malformed span."""
    return PROPAGATOR.extract(headers, Context(), FIELDS)


def trace_id_of(span: Span | None, headers: Headers) -> str | None:
    """Give the id of the trace of the request's span or, if it has no span, of the caller's; None without both."""
    context = (span or get_current_span(remote_context(headers))).get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None
