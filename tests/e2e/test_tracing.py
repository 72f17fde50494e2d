"""Traces and logs of a real server: what a collector and a reader of the log get, and what they never get."""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from example_folders import ALLOWED, CRASH_MODEL, REJECTED
from gateways import faults_allowed, free_port
from trace_collector import Collector, attributes, collecting
from waiting import until

from service.telemetry.logs import BURST, LINES_PER_SECOND

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway
    from v2_client import Speaker

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["decode", "queue", "input_guards", "model", "output_guards", "encode"]
PREDICT = "/v1/models/{name}:predict"
MARKER = "xyzzy-marker"
SERVER_KIND, OK, ERROR = 2, 0, 2


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector that takes everything."""
    with collecting() as one:
        yield one


@pytest.fixture(scope="module")
def traced(bundles: "Bundles", collector: Collector) -> Iterator["Speaker"]:
    """A server, over HTTP and gRPC, that only knows the collector's address."""
    from v2_client import Speaker, start

    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "loans-gateway",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    gateway, rpc = start(bundles, "table", environment=environment)
    gateway.wait_ready()
    yield Speaker(gateway, rpc)
    gateway.stop()


@pytest.fixture
def gateway(traced: "Speaker") -> "Gateway":
    """The server's HTTP."""
    return traced.gateway


def told(gateway: "Gateway", **wanted: object) -> dict[str, Any]:
    """Find the one line of the log that says all of this."""

    def lines() -> list[dict[str, Any]]:
        whole = gateway.log().rpartition("\n")[0]
        told = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in told if line.items() >= wanted.items()]

    (found,) = until(lines)  # a front logs a request after the answer
    return found


def room() -> None:
    """Wait until the log takes a line again, however many came before."""
    time.sleep(1.5 / LINES_PER_SECOND)


def request_of(spans: list[Any]) -> Any:
    (span,) = (span for span in spans if span.kind == SERVER_KIND)
    return span


def test_a_request_is_a_span_with_its_stages(gateway: "Gateway", collector: Collector) -> None:
    """The caller's span is the parent; each stage lies inside of its request, one after the other."""
    room()
    before = time.time_ns()
    response = gateway.post(
        {"instances": [ALLOWED, REJECTED]},
        traceparent=f"00-{TRACE}-{PARENT}-01",
        tracestate="vendor=value",
        X_Request_ID="traced-1",
    )
    after = time.time_ns()
    spans = collector.wait(lambda: collector.trace(TRACE), 7)
    span = request_of(spans)
    assert (span.name, span.parent_span_id.hex(), span.trace_state) == (f"POST {PREDICT}", PARENT, "vendor=value")
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": PREDICT,
        "http.response.status_code": 200,
        "guardhouse.model": "loans",
        "guardhouse.request_id": "traced-1",
        "guardhouse.rows": 2,
        "guardhouse.action": response.headers["X-Guardhouse-Action"],
    }
    assert span.status.code == OK
    stages = sorted((stage for stage in spans if stage is not span), key=lambda stage: stage.start_time_unix_nano)
    assert [stage.name for stage in stages] == STAGES
    assert {stage.parent_span_id for stage in stages} == {span.span_id}
    assert [attributes(stage) for stage in stages] == [{}, {}, *[{"guardhouse.batch_rows": 2}] * 3, {}]
    moments = [moment for stage in stages for moment in (stage.start_time_unix_nano, stage.end_time_unix_nano)]
    moments = [span.start_time_unix_nano, *moments, span.end_time_unix_nano]
    assert moments == sorted(moments)
    # The server reads the clock of the wall and the clock of durations one after the other, and may stall in between.
    assert before - 1_000_000_000 <= moments[0]
    assert moments[-1] <= after + 1_000_000_000
    assert told(gateway, request_id="traced-1").items() >= {
        "level": "info", "trace_id": TRACE, "method": "POST", "route": PREDICT, "code": 200, "rows": 2,
        "action": "reject",
    }.items()  # fmt: skip


def test_the_resource_says_what_runs(gateway: "Gateway", collector: Collector) -> None:
    """The service's name and attributes are the environment's, the model the server's; all of it goes to one path."""
    gateway.predict([ALLOWED])
    collector.wait(lambda: collector.spans, 1)
    assert collector.paths == {"/v1/traces"}
    (resource,) = {json.dumps(attributes(each.resource_spans[0].resource)) for each in collector.requests}
    assert json.loads(resource).items() >= {
        "service.name": "loans-gateway", "deployment.environment.name": "test",
        "guardhouse.model": "loans", "guardhouse.model_version": "2024.1",
    }.items()  # fmt: skip
    scopes = {scope.scope.name for each in collector.requests for scope in each.resource_spans[0].scope_spans}
    assert scopes == {"guardhouse"}, "BentoML's own spans came too"


def test_every_request_of_a_batch_has_its_own_stages(gateway: "Gateway", collector: Collector) -> None:
    """Requests of one batch each have all stages; a request that is cut has the stages of each of its batches."""
    traces = [f"{number:032x}" for number in range(1, 25)]
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=gateway.url) as client:
        ask = [
            pool.submit(
                client.post,
                "/predict",
                json={"instances": [ALLOWED] * (300 if number % 8 == 0 else 2)},
                headers={"traceparent": f"00-{trace}-{PARENT}-01"},
            )
            for number, trace in enumerate(traces)
        ]
        assert {one.result().status_code for one in ask} == {200}
    for number, trace in enumerate(traces):
        spans = collector.wait(lambda: collector.trace(trace), 7)  # noqa: B023 - asked at once
        span = request_of(spans)
        stages = [stage for stage in spans if stage is not span]
        assert {stage.name for stage in stages} == set(STAGES)
        rows = 300 if number % 8 == 0 else 2
        assert attributes(span)["guardhouse.rows"] == rows
        model = [stage for stage in stages if stage.name == "model"]
        assert sum(attributes(stage)["guardhouse.batch_rows"] for stage in model) >= rows
        assert len(model) >= -(-rows // gateway.batch_rows)
        assert all(
            span.start_time_unix_nano
            <= stage.start_time_unix_nano
            <= stage.end_time_unix_nano
            <= span.end_time_unix_nano
            for stage in stages
        )


def test_calls_by_grpc_are_traced_too(traced: "Speaker", collector: Collector) -> None:
    """A call's metadata carry the trace context as a request's headers do."""
    import grpc
    from v2_client import columns, head, packed

    from service.front.protocols import grpc_predict_v2_pb2 as messages

    request = messages.ModelInferRequest(model_name="loans")
    for name, array in columns([ALLOWED]).items():
        request.inputs.add(**head(name, array))
        request.raw_input_contents.append(packed(array))
    trace = "1" * 32
    room()
    with grpc.insecure_channel(traced.rpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        call(
            request.SerializeToString(),
            metadata=[("traceparent", f"00-{trace}-{PARENT}-01"), ("x-request-id", "by-grpc")],
        )
    spans = collector.wait(lambda: collector.trace(trace), 7)
    span = request_of(spans)
    assert (span.name, span.parent_span_id.hex()) == ("grpc:ModelInfer", PARENT)
    assert attributes(span) == {
        "rpc.system": "grpc",
        "rpc.method": "ModelInfer",
        "guardhouse.code": 200,
        "guardhouse.model": "loans",
        "guardhouse.request_id": "by-grpc",
        "guardhouse.rows": 1,
        "guardhouse.action": "allow",
    }
    assert told(traced.gateway, request_id="by-grpc")["route"] == "grpc:ModelInfer"


def test_an_unsampled_caller_is_obeyed(gateway: "Gateway", collector: Collector) -> None:
    """A caller that does not record its trace gets no span of ours; the log still names the trace."""
    for trace, flag in (("2" * 32, "00"), ("3" * 32, "01")):
        room()
        gateway.post({"instances": [ALLOWED]}, traceparent=f"00-{trace}-{PARENT}-{flag}", X_Request_ID=f"flag-{flag}")
    collector.wait(lambda: collector.trace("3" * 32), 7)
    assert not collector.trace("2" * 32)
    assert told(gateway, request_id="flag-00")["trace_id"] == "2" * 32


def test_faults_and_refusals(gateway: "Gateway", collector: Collector) -> None:
    """A fault of the server is an error of the span, a client's mistake is not; neither holds the request's content."""
    for trace, row, code, status in (("4" * 32, {"age": "x"}, 422, OK), ("5" * 32, {"trap": CRASH_MODEL}, 500, ERROR)):
        room()
        with faults_allowed(gateway, "a batch failed: ValueError", "ValueError while answering request"):
            gateway.post({"instances": [ALLOWED | row]}, traceparent=f"00-{trace}-{PARENT}-01")
        span = request_of(collector.wait(lambda: collector.trace(trace), 1))  # noqa: B023
        assert attributes(span)["http.response.status_code"] == code
        assert (span.status.code, span.status.message) == (status, "")
        assert not span.events
        assert told(gateway, trace_id=trace)["code"] == code


def test_probes_leave_no_trace(gateway: "Gateway", collector: Collector) -> None:
    """A probe makes no span, and no line in the log."""
    for path in ("/livez", "/readyz", "/healthz", "/metrics", "/v2/health/live", "/v2/health/ready"):
        gateway.client.get(path, headers={"X-Request-ID": "a-probe"})
    room()
    gateway.client.get("/v1/models", headers={"X-Request-ID": "no-probe"})
    collector.wait(lambda: [s for s in collector.spans if attributes(s).get("guardhouse.request_id") == "no-probe"], 1)
    assert not [s for s in collector.spans if attributes(s).get("guardhouse.request_id") == "a-probe"]
    assert "a-probe" not in gateway.log()
    assert "no-probe" in gateway.log()


def test_nothing_that_a_client_sent_is_told(gateway: "Gateway", collector: Collector) -> None:
    """Ids, values, groups, paths, queries, headers and what is no trace context: neither spans nor log quote them."""
    good: dict[str, Any] = {"instances": [ALLOWED | {"job": MARKER}], "ids": [MARKER], "groups": {"sex": ["Male"]}}
    asked = [
        ("POST", "/predict", good, {}),
        ("POST", "/predict", good, {"X-Own": MARKER, "User-Agent": MARKER, "Authorization": f"Bearer {MARKER}"}),
        ("POST", "/predict", good, {"traceparent": MARKER, "tracestate": MARKER, "baggage": f"a={MARKER}"}),
        ("POST", "/predict", good, {"traceparent": f"00-{'6' * 32}-{PARENT}-01", "tracestate": f"{MARKER}={MARKER},="}),
        ("POST", "/predict", {**good, MARKER: 1}, {}),
        ("POST", "/predict", {**good, "groups": {"sex": [MARKER]}}, {}),
        ("POST", "/predict", {"instances": [{MARKER: MARKER}]}, {}),
        ("POST", f"/{MARKER}?{MARKER}={MARKER}", good, {}),
        ("PROPFIND", f"/predict?{MARKER}", good, {}),
        ("POST", "/v1/models/loans:feedback", {"outcomes": [{"id": MARKER, "label": MARKER}]}, {}),
        ("GET", f"/v1/explanations/{MARKER}", None, {}),
    ]
    room()
    with httpx.Client(base_url=gateway.url) as client:
        for number, (method, path, body, headers) in enumerate(asked):
            client.request(method, path, json=body, headers={"X-Request-ID": f"marked-{number}", **headers})

    def marked() -> list[Any]:
        return [s for s in collector.spans if attributes(s).get("guardhouse.request_id", "").startswith("marked-")]

    collector.wait(marked, len(asked))
    sent = b"".join(each.SerializeToString() for each in collector.requests)
    assert MARKER.encode() not in sent.replace(f"{MARKER}={MARKER}".encode(), b"")  # a trace's state is passed on
    assert MARKER not in gateway.log()
    assert gateway.log().count("marked-") >= 1


def test_a_flood_is_a_few_lines(gateway: "Gateway") -> None:
    """However many requests come, a second of the log can be read, and says how many lines are not there."""
    room()
    began, size, sent = time.monotonic(), len(gateway.log()), 0
    lines: list[dict[str, Any]] = []
    with httpx.Client(base_url=gateway.url) as client:
        while sent < 300 or sum(1 + line.get("dropped", 0) for line in lines) < sent:
            if sent >= 300:  # until a line comes through that says how many did not
                room()
            client.get("/v1/models")
            sent += 1
            assert time.monotonic() - began < 180
            lines = (
                [json.loads(line) for line in gateway.log()[size:].rpartition("\n")[0].splitlines()]
                if sent >= 300
                else []
            )
    assert {line["logger"] for line in lines} == {"guardhouse.access"}
    assert len(lines) <= BURST + LINES_PER_SECOND * (time.monotonic() - began) + 1


@pytest.mark.parametrize("trouble", [pytest.param("nobody listens", marks=pytest.mark.slow), "no answer"])
def test_a_collector_that_is_down_costs_nothing_but_spans(bundles: "Bundles", trouble: str) -> None:
    """Predictions are answered, the lost spans are logged now and then, and the server ends in order without delay."""
    held = threading.Event()
    with collecting(lambda: bool(held.wait(120)) and None) as collector:  # type: ignore[func-returns-value]
        url = collector.url if trouble == "no answer" else f"http://127.0.0.1:{free_port()}"
        gateway = bundles.serve(
            "table", OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="50", OTEL_BSP_MAX_QUEUE_SIZE="64",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="32", OTEL_EXPORTER_OTLP_TIMEOUT="1",
        ).wait_ready()  # fmt: skip
        gateway.expected += ["the collector of traces does not take them", "Queue full, dropping Span"]
        for _ in range(100):
            assert gateway.predict([ALLOWED])[0]["action"] == "allow"
        gateway.wait_for(lambda _: "spans are lost so far" in gateway.log())
        asked = time.monotonic()
        gateway.stop()
        assert time.monotonic() - asked < 50  # the collector holds its answer for longer
        held.set()
    assert gateway.log().count("WARNING") + gateway.log().count("warning") < 60
    assert not re.search(r"Traceback|urllib3|HTTPConnectionPool", gateway.log())
