"""Trace context of requests and spans: which parent is valid, and what switches tracing on."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import StatusCode, get_tracer_provider

from service.messages.stage import Stage
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import CURRENT, Exchange, Exchanges, took
from service.telemetry.trace_context import trace_id_of
from service.telemetry.tracing import Tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"
ROUTE = "/predict"
Headers = Sequence[tuple[bytes, bytes]]


class Traced:
    """Exchanges whose spans are kept."""

    def __init__(self) -> None:
        self.kept = InMemorySpanExporter()
        provider = TracerProvider(ALWAYS_ON, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.metrics = FrontMetrics({ROUTE: (200, 500), "/livez": (200,)})
        self.exchanges = Exchanges(self.metrics, Tracing(provider.get_tracer("test"), "model", lambda: None))

    def ask(self, headers: Headers = (), *, method: str = "POST", code: int | None = 200) -> ReadableSpan:
        """Answer a request, and give its span."""
        self.exchanges.end(self.exchanges.begin(ROUTE, method, "id", headers), code)
        (span,) = self.kept.get_finished_spans()
        self.kept.clear()
        return span


@pytest.fixture
def traced() -> Traced:
    return Traced()


def exchange(headers: Headers) -> Exchange:
    return Exchange(ROUTE, "POST", "id", headers)


@pytest.mark.parametrize("given_as", [GOOD, f" {GOOD} ", f"01-{TRACE}-{PARENT}-01-more", f"cc-{TRACE}-{PARENT}-01"])
def test_a_callers_span_is_the_parent(traced: Traced, given_as: str) -> None:
    """A trace context of this version, or of a later one with the same beginning, is continued."""
    span = traced.ask([(b"traceparent", given_as.encode())])
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}", span.parent.is_remote) == (
        TRACE, PARENT, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"traceparent", b"")],
        [(b"traceparent", GOOD[:-1].encode())],
        [(b"traceparent", GOOD.upper().encode())],
        [(b"traceparent", f"{GOOD}-more".encode())],
        [(b"traceparent", f"ff-{TRACE}-{PARENT}-01".encode())],
        [(b"traceparent", f"00-{'0' * 32}-{PARENT}-01".encode())],
        [(b"traceparent", f"00-{TRACE}-{'0' * 16}-01".encode())],
        [(b"traceparent", f"00-{TRACE[:-1]}x-{PARENT}-01".encode())],
        [(b"traceparent", GOOD.encode()), (b"traceparent", GOOD.encode())],
        [(b"traceparent", b"\xd9\xa0\xd9\xa0" + GOOD[2:].encode())],
        [(b"tracestate", b"a=b")],
    ],
)
def test_what_is_malformed_begins_a_trace(traced: Traced, headers: Headers) -> None:
    """A malformed or repeated trace context is ignored, and a new trace begins."""
    span = traced.ask(headers)
    assert span.parent is None
    assert span.context.trace_id not in (0, int(TRACE, 16))
    assert trace_id_of(None, headers) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"traceparent", b"tracestate"]),
            st.binary(max_size=60)
            | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True).map(
                lambda text: text.encode("utf-8", "surrogatepass")
            )
            | st.from_regex(r"([a-z0-9_*/@-]{0,20}=?[ -~]{0,20},?){0,40}", fullmatch=True).map(str.encode),
        ),
        max_size=4,
    )
)
def test_no_header_is_a_fault(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever a client sends as its trace context, its request is answered, with a trace or without."""
    traced = Traced()
    span = traced.ask(headers)
    known = trace_id_of(None, headers)
    assert known is None or span.parent is None or f"{span.parent.trace_id:032x}" == known
    assert len([name for name, _ in headers if name == b"traceparent"]) == 1 or known is None


@pytest.mark.parametrize(
    ("method", "code", "name", "status"),
    [
        ("POST", 200, "POST /predict", StatusCode.UNSET),
        ("POST", 500, "POST /predict", StatusCode.ERROR),
        ("POST", None, "POST /predict", StatusCode.ERROR),
        ("PROPFIND", 200, "HTTP /predict", StatusCode.UNSET),
    ],
)
def test_a_span_is_named_by_its_route(
    traced: Traced, method: str, code: int | None, name: str, status: StatusCode
) -> None:
    """Names come from closed sets; faults and requests without an answer are errors, a client's mistakes are not."""
    span = traced.ask(method=method, code=code)
    assert (span.name, span.status.status_code) == (name, status)


def test_stages_are_noted_where_somebody_asks() -> None:
    """A stage of a traced request is counted and a span; without tracing, and of a probe, it is counted alone."""
    traced, plain = Traced(), Exchanges(FrontMetrics({ROUTE: (200,), "/livez": (200,)}))
    for exchanges, route in ((traced.exchanges, ROUTE), (traced.exchanges, "/livez"), (plain, ROUTE)):
        begun = exchanges.begin(route, "POST", "id", [])
        assert CURRENT.get() is begun
        took(exchanges.metrics.stages, "decode", begun.started)
        exchanges.end(begun, 200)
    stage, span = traced.kept.get_finished_spans()
    assert (stage.name, stage.parent) == ("decode", span.context)
    for metrics, count in ((traced.metrics, 2), (plain.metrics, 1)):
        assert metrics.stages.counts[metrics.stages.index["decode",]].sum() == count


def test_times_are_the_batchs_own(traced: Traced) -> None:
    """A stage's span has the stage's times, to the nanosecond of the request's own clock."""
    begun = traced.exchanges.begin(ROUTE, "POST", "id", [])
    assert begun.stages is not None
    start, end = begun.started + 0.25, begun.started + 0.5
    begun.stages.append(Stage("model", start, end, 7))
    traced.exchanges.end(begun, 200)
    stage, span = traced.kept.get_finished_spans()
    assert stage.attributes == {"guardhouse.batch_rows": 7}
    assert stage.start_time is not None
    assert stage.end_time is not None
    assert span.start_time is not None
    assert stage.start_time - span.start_time == pytest.approx(0.25e9, abs=10)
    assert stage.end_time - stage.start_time == pytest.approx(0.25e9, abs=10)


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_tracing_is_on_where_a_collector_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Either of the two standard variables switches tracing on, without any global state."""
    before = get_tracer_provider()
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    tracing = Tracing.from_environment(model="m", version="1")
    assert tracing is not None
    asyncio.run(tracing.close())
    assert get_tracer_provider() is before


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_tracing_is_off_otherwise(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Without a collector, or if a variable forbids it, nothing is traced, and nothing is logged."""
    assert Tracing.from_environment(model="m", version="1", environment=environment) is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ],
)
def test_what_cannot_be_done_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    """A protocol that is not spoken, or a value that the SDK does not take, costs the traces and one line."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    assert Tracing.from_environment(model="m", version="1") is None
    assert [record.getMessage()[:18] for record in caplog.records] == ["nothing is traced:"]


def test_leaving_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that takes its time with the last spans does not keep the server."""
    monkeypatch.setattr("service.telemetry.tracing.CLOSE_SECONDS", 0.05)
    held = threading.Event()
    tracing = Tracing(TracerProvider(shutdown_on_exit=False).get_tracer("test"), "m", held.wait)
    asyncio.run(asyncio.wait_for(tracing.close(), 20))
    assert not held.is_set()
    held.set()


def test_an_exporter_that_cannot_be_made_costs_its_spans(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If an exporter cannot be made, as with an unreadable certificate, a warning says so and the server starts."""

    def unreadable(**_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("service.telemetry.otlp.connect", unreadable)
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
    assert Tracing.from_environment(model="m", version="1", environment=collector) is None
    assert "nothing is traced: PermissionError: Permission denied" in caplog.text
