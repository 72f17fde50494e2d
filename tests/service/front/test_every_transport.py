"""The same rows by every protocol and transport get the same bits, and Triton's statistics count them."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from idle_limit import idle_limit
from local_engine import LocalEngine, served_model_of
from tiny_models import CLASSES, fitted, inputs
from v2_client import HEADER, binary_request, head, json_request, packed

from guards import Bundle
from service.front.dispatch import Limits
from service.front.grpc_standard_services import SERVICE
from service.front.http import JSON, OCTETS
from service.front.protocols import grpc_predict_v2_pb2 as messages
from service.front.readiness import Readiness
from service.lifecycle.assembly import Assembly, codes_of
from service.messages.refused import Refused
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import Exchanges

IDS = ["a", "b", "c"]


class Counted:
    """What the whole server has counted; it has one front, and the test says what its engine has counted."""

    def __init__(self, metrics: FrontMetrics) -> None:
        self._metrics = metrics
        self.engine_rows, self.engine_last_batch = 0, 0.0

    def requests(self, route: str, code: str) -> float:
        return self._metrics.requests.total(route, code)

    def duration(self, route: str) -> tuple[int, float]:
        return self._metrics.duration.total(route)

    def stage(self, stage: str) -> tuple[int, float]:
        return self._metrics.stages.total(stage)

    def rows(self) -> int:
        return self.engine_rows

    def last_batch(self) -> float:
        return self.engine_last_batch


class Nothing:
    """No metrics."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        return accept.encode(), "text/plain"


class Front:
    """Both transports of one front over a local engine."""

    def __init__(self, bundle: Bundle) -> None:
        self.engine, served = LocalEngine(bundle), served_model_of(bundle)
        self.metrics = FrontMetrics(codes_of(served, {}))
        self.counted = Counted(self.metrics)
        self.assembly = Assembly.of(
            served,
            self.engine,
            readiness=Readiness(self.engine, lambda: False),
            stages=self.metrics.stages,
            limit=idle_limit(),
            exposition=Nothing(),
            totals=lambda: self.counted,
            more={},
        )
        self.exchanges = Exchanges(self.metrics)
        self.limits = Limits(
            self.assembly.routes, self.exchanges, max_body_bytes=2**20, timeout_seconds=60, closing=lambda: False
        )

    def http(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Send a request by HTTP."""
        sent: list[Any] = []
        fields = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
        method = "GET" if body is None else "POST"
        scope = {"type": "http", "method": method, "path": path, "headers": fields}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body or b""}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.limits(scope, receive, send))
        start, end = sent
        told = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], end["body"], told

    def rpc(self, method: str, message: Any) -> tuple[grpc.StatusCode, bytes]:
        """Send a request by gRPC; give the status, and the answer or the details."""

        async def main() -> tuple[grpc.StatusCode, bytes]:
            server = self.assembly.rpc_server(self.exchanges)
            port = server._server.add_insecure_port("127.0.0.1:0")
            await server._server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.unary_unary(f"/{SERVICE}/{method}")(message.SerializeToString())
                code = await call.code()
                told = await call if code == grpc.StatusCode.OK else (await call.details()).encode()
            await server._server.stop(0)
            return code, told

        return asyncio.run(main())


@pytest.fixture(scope="module")
def front() -> Front:
    """Assemble a front for a model of numbers."""
    return Front(fitted("tensor", server={"grpc_port": 9000}).bundle)


@pytest.fixture
def arrays() -> dict[str, Any]:
    """Make up rows with their ids."""
    return {"x": inputs("tensor", 3, 0).numpy(), "id": np.array(IDS, dtype=object)}


def by_grpc(arrays: dict[str, Any], *, raw: bool) -> Any:
    """Write a gRPC request."""
    request = messages.ModelInferRequest(model_name="toy")
    for name, array in arrays.items():
        tensor = request.inputs.add(**head(name, array))
        if raw:
            request.raw_input_contents.append(packed(array))
        elif name == "id":
            tensor.contents.bytes_contents.extend(each.encode() for each in array)
        else:
            tensor.contents.fp32_contents.extend(array.ravel().tolist())
    return request


def bits(values: Sequence[float | None]) -> bytes:
    """Give float32 numbers as bytes; None is NaN."""
    return np.array([np.nan if value is None else value for value in values], dtype="<f4").tobytes()


def test_every_transport_answers_the_same_bits(front: Front, arrays: dict[str, Any]) -> None:
    """v1, v2 as JSON, v2 as binary data, and both forms of gRPC answer the same probabilities and actions."""
    body = json.dumps({"instances": arrays["x"].tolist(), "ids": IDS}).encode()
    status, v1, headers = front.http("/v1/models/toy:predict", body, content_type=JSON)
    assert status == 200
    said = json.loads(v1)["predictions"]
    blank = dict.fromkeys(CLASSES)  # of a row that is not answered
    expected = bits([value for row in said for value in row.get("probabilities", blank).values()])
    assert not np.isnan(np.frombuffer(expected, dtype="<f4")).all()
    actions = [row["action"] for row in said]

    written = json.dumps(json_request(arrays)).encode()
    _, v2, v2_headers = front.http("/v2/models/toy/infer", written, content_type=JSON)
    outputs = {output["name"]: output["data"] for output in json.loads(v2)["outputs"]}
    assert (bits(outputs["probabilities"]), outputs["action"], outputs["id"]) == (expected, actions, IDS)
    assert v2_headers["x-guardhouse-action"] == headers["x-guardhouse-action"]

    framed, length = binary_request(arrays, parameters={"binary_data_output": True})
    _, binary, binary_headers = front.http(
        "/v2/models/toy/infer", framed, content_type=OCTETS, inference_header_content_length=str(length[HEADER])
    )
    start = int(binary_headers[HEADER.lower()])
    described = json.loads(binary[:start])["outputs"]
    place = start
    for output in described:
        size = output["parameters"]["binary_data_size"]
        if output["name"] == "probabilities":
            assert binary[place : place + size] == expected
        place += size
    assert place == len(binary)

    for raw in (False, True):
        code, told = front.rpc("ModelInfer", by_grpc(arrays, raw=raw))
        assert code == grpc.StatusCode.OK
        response = messages.ModelInferResponse.FromString(told)
        names = [output.name for output in response.outputs]
        at = names.index("probabilities")
        contents = response.outputs[at].contents.fp32_contents
        assert (response.raw_output_contents[at] if raw else bits(contents)) == expected


def test_a_binary_request_gets_the_same_bytes_each_time(front: Front, arrays: dict[str, Any]) -> None:
    """Requests whose head is known get the answer of the first request, each with its own id and its own rows."""
    answers = []
    for turn in range(4):
        x = arrays["x"][::-1] if turn == 3 else arrays["x"]
        framed, length = binary_request({**arrays, "x": x}, parameters={"binary_data_output": True})
        start = b'{"id": "%d", ' % turn
        status, body, headers = front.http(
            "/v2/models/toy/infer",
            start + framed[1:],
            content_type=OCTETS,
            inference_header_content_length=str(int(length[HEADER]) - 1 + len(start)),
        )
        assert status == 200
        size = int(headers[HEADER.lower()])
        described = json.loads(body[:size])
        assert described.pop("id") == str(turn)
        answers.append((described, body[size:]))
    assert answers[0] == answers[1] == answers[2]
    assert answers[3][0] == answers[0][0]
    assert answers[3][1] != answers[0][1]


@pytest.mark.parametrize("way", ["v1", "v2", "grpc"])
def test_every_transport_tells_why_the_engine_refuses(front: Front, arrays: dict[str, Any], way: str) -> None:
    """While the engine is lost, every protocol refuses with that reason, and each refusal is counted once by it."""
    before = front.metrics.shed.total("engine_lost")
    front.engine.refusal = Refused("engine_lost", "the engine has ended")
    try:
        if way == "grpc":
            code, details = front.rpc("ModelInfer", by_grpc(arrays, raw=True))
            assert (code, details) == (grpc.StatusCode.UNAVAILABLE, b"the engine has ended")
        else:
            path = "/v1/models/toy:predict" if way == "v1" else "/v2/models/toy/infer"
            status, body, headers = front.http(path, b"no JSON", content_type=JSON)
            assert (status, headers["retry-after"]) == (503, "1")
            document = json.loads(body)
            assert document["detail"] == "the engine has ended"
            assert ("error" in document) == (way == "v2")
    finally:
        front.engine.refusal = None
    assert front.metrics.shed.total("engine_lost") == before + 1


def test_health_is_the_engines_by_every_transport(front: Front) -> None:
    """v1, v2 and gRPC say ready together, and not ready together."""
    ready, models = messages.ServerReadyRequest(), messages.ModelReadyRequest(name="toy")
    for trouble in (None, "the model is still loading"):
        front.engine.trouble = trouble
        try:
            codes = {front.http(path)[0] for path in ("/readyz", "/v2/health/ready", "/v2/models/toy/ready")}
            told = messages.ServerReadyResponse.FromString(front.rpc("ServerReady", ready)[1]).ready
            model = messages.ModelReadyResponse.FromString(front.rpc("ModelReady", models)[1]).ready
            _, index, _ = front.http("/v2/repository/index", b"", content_type=JSON)
        finally:
            front.engine.trouble = None
        assert codes == {200 if trouble is None else 503}
        assert told == model == (trouble is None)
        assert json.loads(index) == [
            {"name": "toy", "version": "1", "state": "READY" if trouble is None else "UNAVAILABLE",
             "reason": trouble or ""},
        ]  # fmt: skip


def test_statistics_are_of_the_whole_server(arrays: dict[str, Any]) -> None:
    """Triton's statistics count the requests of every transport, and the rows and the last batch of the engine."""
    front = Front(fitted("tensor", server={"grpc_port": 9000}).bundle)
    front.http("/v2/models/toy/infer", json.dumps(json_request(arrays)).encode(), content_type=JSON)
    front.http("/v2/models/toy/infer", b"no JSON", content_type=JSON)
    front.rpc("ModelInfer", by_grpc(arrays, raw=True))
    front.counted.engine_rows, front.counted.engine_last_batch = 6, 12.5
    (said,) = json.loads(front.http("/v2/models/stats")[1])["model_stats"]
    assert (said["inference_count"], said["last_inference"]) == (6, 12500)
    assert said["inference_stats"]["success"]["count"] == 2
    assert said["inference_stats"]["fail"]["count"] == 1
    assert said["inference_stats"]["compute_input"]["count"] == 2
