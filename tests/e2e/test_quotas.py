"""Quotas of principals over HTTP and gRPC: what one principal has used up, another still has."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from feedback_totals import YES
from fresh_client import FRESH
from gateways import read_answer
from v2_client import start
from waiting import until

from service.front.grpc_standard_services import REFLECTION, SERVICE
from service.front.protocols.grpc_reflection_v1_pb2 import ServerReflectionRequest
from service.keys.key_file import add_key

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

MODEL = "/v1/models/loans"
QUOTAS: dict[str, dict[str, float]] = {
    "requests": {"requests_per_second": 2},
    "rows": {"rows_per_second": 4},
    "feedback": {"feedback_rows_per_day": 3},
    "stored": {"stored_bytes_per_day": 2000},
    "explaining": {"explain_seconds_per_hour": 0.001},
    "jobs": {"explanations_kept": 2},
    "connecting": {"connections": 2},
    "calling": {"connections": 2},
    "free": {},
}
SCOPES: Any = ["predict", "feedback", "explain", "monitors", "metrics"]


class Bounded:
    """A server, and a key of a principal for each quota."""

    def __init__(self, gateway: "Gateway", rpc: str, keys: dict[str, str]) -> None:
        self.gateway, self.rpc, self.keys = gateway, rpc, keys

    def post(self, who: str, what: str, body: Any, **headers: str) -> Any:
        """Send a request."""
        headers = {"X-API-Key": self.keys[who], **{name.replace("_", "-"): value for name, value in headers.items()}}
        return FRESH.post(f"{self.gateway.url}{MODEL}:{what}", json=body, headers=headers, timeout=60)

    def predict(self, who: str, rows: int = 1) -> Any:
        """Predict."""
        return self.post(who, "predict", {"instances": [YES] * rows})


@pytest.fixture(scope="module")
def bounded(bundles: "Bundles", ledger: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bounded]:
    """Serve a classifier to principals with quotas."""
    file: Path = tmp_path_factory.mktemp("quotas") / "keys.yaml"
    keys = {name: add_key(file, name, SCOPES) for name in QUOTAS}
    document = yaml.safe_load(file.read_text())
    for principal in document["principals"]:
        principal["quotas"] = QUOTAS[principal["name"]]
    file.write_text(yaml.safe_dump(document))
    gateway, rpc = start(bundles, ledger, environment={"GUARDHOUSE_API_KEYS_FILE": str(file)})
    yield Bounded(gateway.wait_ready(), rpc, keys)
    gateway.stop()


def _refused(answer: Any, what: str) -> None:
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert what in answer.json()["detail"]


def _call(bounded: Bounded, who: str) -> grpc.StatusCode:
    """Ask for the server's metadata over gRPC, and give the code."""
    with grpc.insecure_channel(bounded.rpc) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ServerMetadata")
        try:
            call(b"", metadata=[("x-api-key", bounded.keys[who])], timeout=30)
        except grpc.RpcError as refused:
            code: grpc.StatusCode = refused.code()
            return code
    return grpc.StatusCode.OK


def test_requests_are_counted_by_every_door(bounded: Bounded) -> None:
    """Refused rows count as requests, too; HTTP and gRPC, its streams too, share the quota."""
    answers = [bounded.post("requests", "predict", {}) for _ in range(12)]
    assert answers[0].status_code == 422
    _refused(next(answer for answer in answers if answer.status_code == 429), "requests")
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in {_call(bounded, "requests") for _ in range(12)}
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in _calls_on_connections(bounded, "requests", 12)
    assert bounded.predict("free").status_code == 200
    assert _call(bounded, "free") == grpc.StatusCode.OK


def test_rows_are_counted(bounded: Bounded) -> None:
    """A request of many rows uses as much as many requests of one."""
    assert bounded.predict("rows", 8).status_code == 200
    _refused(bounded.predict("rows", 8), "rows")
    assert bounded.predict("free", 8).status_code == 200


def test_outcomes_are_counted(bounded: Bounded) -> None:
    """Outcomes beyond the day's are refused whole, before they are stored."""
    outcomes = [{"id": f"nobody-{number}", "label": "yes"} for number in range(3)]
    assert bounded.post("feedback", "feedback", {"outcomes": outcomes}).status_code == 200
    _refused(bounded.post("feedback", "feedback", {"outcomes": outcomes[:1]}), "outcomes")


def test_stored_bytes_are_counted(bounded: Bounded) -> None:
    """A prediction that the store would have to keep beyond the day's bytes is refused, and not kept in silence."""
    codes = [bounded.predict("stored").status_code for _ in range(20)]
    assert codes[0] == 200
    assert codes[-1] == 429


def test_seconds_of_explanation_are_counted(bounded: Bounded) -> None:
    """Once the seconds are used up, nothing is explained, now or later."""
    first = bounded.post("explaining", "explain", {"instances": [YES]})
    assert first.status_code in (200, 422), "also work that ends without an explanation is charged"
    _refused(bounded.post("explaining", "explain", {"instances": [YES]}), "seconds of explanation")


def test_kept_explanations_are_counted(bounded: Bounded) -> None:
    """A principal may keep so many explanations; others may keep theirs."""
    later = {"Prefer": "respond-async"}
    assert [bounded.post("jobs", "explain", {"instances": [YES]}, **later).status_code for _ in range(2)] == [202, 202]
    _refused(bounded.post("jobs", "explain", {"instances": [YES]}, **later), "too many explanations")
    assert bounded.post("free", "explain", {"instances": [YES]}, **later).status_code == 202


def test_connections_are_counted(bounded: Bounded) -> None:
    """A connection too many gets 429 and is closed; when another one is closed, there is room again."""
    head = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-API-Key: {bounded.keys['connecting']}\r\n\r\n".encode()
    opened = [bounded.gateway.connect() for _ in range(3)]
    for connection, code in zip(opened, (200, 200, 429), strict=True):
        connection.send(head)
        assert read_answer(connection).status == code
    assert opened[2].recv(1) == b""
    opened[0].close()
    with bounded.gateway.connect() as again:
        again.send(head)
        assert read_answer(again).status == 200
    for connection in opened[1:]:
        connection.close()


def _calls_on_connections(bounded: Bounded, who: str, number: int) -> list[grpc.StatusCode | None]:
    """Begin a call on each of some gRPC connections, all at once; give the codes, None for a call that goes on."""
    metadata = [("x-api-key", bounded.keys[who])]
    with contextlib.ExitStack() as stack:
        send = threading.Event()
        stack.callback(send.set)
        calls = []
        for _ in range(number):
            own = [("grpc.use_local_subchannel_pool", 1)]
            channel = stack.enter_context(grpc.insecure_channel(bounded.rpc, options=own))
            reflect = channel.stream_stream(f"/{REFLECTION[0]}/ServerReflectionInfo")

            def asked() -> Iterator[bytes]:
                yield ServerReflectionRequest(list_services="").SerializeToString()
                send.wait(60)

            calls.append(reflect(asked(), metadata=metadata, timeout=60))
        return [_first(call) for call in calls]


def _first(call: Any) -> grpc.StatusCode | None:
    """Wait for the first answer of a stream, or for the end of the call; give the code if the call has ended."""
    try:
        next(call)
    except grpc.RpcError as refused:
        code: grpc.StatusCode = refused.code()
        return code
    return None


def test_grpc_connections_count_while_they_have_calls(bounded: Bounded) -> None:
    """More connections than the quota may not have calls at one time; when the calls have ended, there is room."""
    codes = _calls_on_connections(bounded, "calling", 3)
    assert sorted(codes, key=str) == [None, None, grpc.StatusCode.RESOURCE_EXHAUSTED]
    until(lambda: _calls_on_connections(bounded, "calling", 2) == [None, None])


def test_refusals_are_counted_as_quotas(bounded: Bounded) -> None:
    """Metrics name the reason, and the log names the principal."""
    text = FRESH.get(f"{bounded.gateway.url}/metrics", headers={"X-API-Key": bounded.keys["free"]}).text
    line = next(each for each in text.splitlines() if each.startswith('guardhouse_shed_requests_total{reason="quota"}'))
    assert float(line.rpartition(" ")[2]) > 0
