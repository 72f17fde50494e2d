"""The Open Inference Protocol over gRPC: statuses, deadlines, bounds, counters, and an orderly end."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from example_folders import ABSTAINED, ALLOWED, CRASH_MODEL, HELD, NAP
from gateways import ON_THE_DEVICE, differing
from grpc_client import calling
from v2_client import Speaker, columns, head, packed, same_bits, start, v1_answer
from waiting import until

from service.front.protocols import grpc_predict_v2_pb2 as messages
from service.lifecycle.shutdown import DRAIN_SECONDS


def raw(arrays: dict[str, Any], model: str, **more: Any) -> Any:
    """Write a request with raw contents."""
    request = messages.ModelInferRequest(model_name=model, **more)
    for name, array in arrays.items():
        request.inputs.add(**head(name, array))
        request.raw_input_contents.append(packed(array))
    return request


def nap(seconds: float) -> Any:
    """Write a request for the regression model to sleep on."""
    values = {"a": NAP, "b": 0.0, "c": seconds}
    return raw({name: np.array([value], dtype=np.float32) for name, value in values.items()}, "value")


def altered(change: Callable[[Any], object], *, typed: bool = False) -> Any:
    """Write a sound request for the table, and spoil it."""
    request = raw(columns([ALLOWED]), "loans")
    if typed:
        del request.raw_input_contents[:]
        for tensor in request.inputs:
            tensor.contents.fp32_contents.append(0.5)
    change(request)
    return request


def _set(name: str, value: Any) -> Callable[[Any], object]:
    return lambda request: setattr(request.inputs[0], name, value)


HOSTILE: dict[str, Callable[[Any], object]] = {
    "a raw content too short": lambda request: request.raw_input_contents.__setitem__(0, b"123"),
    "a raw content too long": lambda request: request.raw_input_contents.__setitem__(0, bytes(8)),
    "a raw content too few": lambda request: request.raw_input_contents.pop(),
    "a raw content too many": lambda request: request.raw_input_contents.append(b""),
    "strings whose lengths lie": lambda request: request.raw_input_contents.__setitem__(2, b"\xff\xff\xff\xffnorth"),
    "strings that are no UTF-8": lambda request: request.raw_input_contents.__setitem__(2, b"\x01\0\0\0\xff"),
    "no datatype": _set("datatype", ""),
    "an unknown datatype": _set("datatype", "FP128"),
    "a datatype without end": _set("datatype", "\U0001f600" * 5000),
    "a datatype of another size": _set("datatype", "FP64"),
    "a datatype of another kind": _set("datatype", "BYTES"),
    "a negative shape": lambda request: request.inputs[0].shape.__setitem__(0, -1),
    "a shape without end": lambda request: request.inputs[0].shape.extend([2**62] * 100_000),
    "no shape": lambda request: request.inputs[0].ClearField("shape"),
    "a name twice": _set("name", "income"),
    "no name": _set("name", ""),
    "inputs without end": lambda request: [request.inputs.add() for _ in range(100_000)],
    "contents of both kinds": lambda request: request.inputs[0].contents.fp32_contents.append(1),
    "an unknown output": lambda request: request.outputs.add(name="logits"),
    "an output twice": lambda request: [request.outputs.add(name="label") for _ in range(2)],
    "outputs without end": lambda request: [request.outputs.add(name="label") for _ in range(100_000)],
    "a parameter of another type": lambda request: setattr(request.parameters["detail"], "string_param", "yes"),
}


def refused(speaker: Speaker, message: Any, method: str = "ModelInfer", timeout: float = 120) -> Any:
    """Give the status and the details that a call ends with."""
    with calling(speaker.rpc) as call, pytest.raises(grpc.RpcError) as told:
        call(method, message, timeout=timeout)
    return told.value.code(), told.value.details()


def test_health_and_metadata(loans: Speaker) -> None:
    """Every method but ModelInfer says what its counterpart over HTTP says."""
    with calling(loans.rpc) as call:
        assert call("ServerLive", messages.ServerLiveRequest())[0].live
        assert call("ServerReady", messages.ServerReadyRequest())[0].ready
        assert call("ModelReady", messages.ModelReadyRequest(name="loans", version="2024.1"))[0].ready
        server, _ = call("ServerMetadata", messages.ServerMetadataRequest())
        model, _ = call("ModelMetadata", messages.ModelMetadataRequest(name="loans"))
    over_http = loans.gateway.client.get("/v2").json()
    assert {"name": server.name, "version": server.version, "extensions": list(server.extensions)} == over_http
    expected = loans.gateway.client.get("/v2/models/loans").json()
    assert (model.name, list(model.versions), model.platform) == ("loans", ["2024.1"], expected["platform"])
    for side in ("inputs", "outputs"):
        specs = [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in getattr(model, side)]
        assert specs == expected[side]


def test_typed_contents_are_answered_with_typed_contents(loans: Speaker) -> None:
    """Typed contents are answered with typed contents, with the same bits as v1's."""
    request = messages.ModelInferRequest(model_name="loans", id="7")
    request.parameters["detail"].bool_param = True
    for name, array in {**columns([ALLOWED]), "id": np.array(["a"], dtype=object)}.items():
        contents = request.inputs.add(**head(name, array)).contents
        if array.dtype == object:
            contents.bytes_contents.extend(value.encode() for value in array)
        else:
            contents.fp32_contents.extend(array.tolist())
    with calling(loans.rpc) as call:
        answer, rpc = call("ModelInfer", request, metadata=[("x-request-id", "mine")])
    assert answer.id == "7"
    assert not answer.raw_output_contents
    tensors = {}
    for output in answer.outputs:
        values = output.contents.bytes_contents or output.contents.fp32_contents
        dtype = object if output.datatype == "BYTES" else np.float32
        tensors[output.name] = np.array(list(values), dtype=dtype).reshape(output.shape)
    predictions = loans.gateway.predict([ALLOWED], ids=["a"], parameters={"detail": True})
    assert same_bits(tensors, v1_answer(predictions))
    guards = {output.name: output.parameters["guards"].string_param for output in answer.outputs}["p_value"]
    assert guards == "quality,ood,confidence,wire"
    trailing = dict(rpc.trailing_metadata())
    assert (trailing["x-request-id"], trailing["x-guardhouse-action"]) == ("mine", "allow")


@pytest.mark.parametrize(
    ("method", "message", "status"),
    [
        ("ModelInfer", b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        ("ModelInfer", raw({}, "loans"), grpc.StatusCode.INVALID_ARGUMENT),
        ("ModelInfer", raw({"age": np.zeros(2)}, "loans"), grpc.StatusCode.INVALID_ARGUMENT),
        ("ModelInfer", raw({}, "nobody"), grpc.StatusCode.NOT_FOUND),
        ("ModelInfer", raw({}, "loans", model_version="1"), grpc.StatusCode.NOT_FOUND),
        ("ModelReady", messages.ModelReadyRequest(name="nobody"), grpc.StatusCode.NOT_FOUND),
        ("ModelMetadata", messages.ModelMetadataRequest(name="loans", version="1"), grpc.StatusCode.NOT_FOUND),
        *(("ModelInfer", altered(change), grpc.StatusCode.INVALID_ARGUMENT) for change in HOSTILE.values()),
        ("ModelInfer", altered(lambda _: None, typed=True), grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=[
        "no message",
        "no inputs",
        "missing inputs",
        "no model",
        "no version",
        "not ready",
        "no metadata",
        *HOSTILE,
        "typed contents of another type",
    ],
)
def test_statuses(loans: Speaker, method: str, message: Any, status: grpc.StatusCode) -> None:
    """A fault of the client has the status for faults of the client, and details that name the fault."""
    code, details = refused(loans, message, method)
    assert code == status
    assert len(details) > 10


def test_details_name_the_place(loans: Speaker) -> None:
    """The details hold every fault with its place."""
    arrays = columns([ALLOWED]) | {"age": np.array(["old"], dtype=object), "taste": np.zeros(1)}
    _, details = refused(loans, raw(arrays, "loans"))
    assert "inputs.0.datatype" in details
    assert "inputs.5.name" in details


def test_a_fault_of_the_models(loans: Speaker) -> None:
    """A crash of the model is INTERNAL, and nothing of the rows leaks."""
    loans.gateway.expected += ["a batch failed", "ValueError while answering"]
    code, details = refused(loans, raw(columns([ALLOWED | {"trap": CRASH_MODEL, "income": 61234.5}]), "loans"))
    assert code == grpc.StatusCode.INTERNAL
    assert details == "a fault of the server's; it is logged"
    assert "61234.5" not in loans.gateway.log()


def test_messages_beyond_the_limit(colours: Speaker) -> None:
    """A message over max_body_bytes is refused before it is read."""
    code, _ = refused(colours, raw({"x": np.zeros((200, 3, 6, 8), dtype=np.float32)}, "colours"))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_calls_are_counted(loans: Speaker) -> None:
    """Calls count under their method, with the code that HTTP would have."""

    def counts() -> list[float]:
        codes = {"200": "ModelInfer", "422": "ModelInfer", "404": "ModelReady"}
        metrics = loans.gateway.metrics()
        rows = sum(value for name, value in metrics.items() if name.startswith("guardhouse_rows_total"))
        return [
            *(metrics[f'guardhouse_requests_total{{code="{c}",route="grpc:{m}"}}'] for c, m in codes.items()),
            metrics['guardhouse_request_duration_seconds_count{route="grpc:ModelInfer"}'],
            rows,
            metrics["guardhouse_inflight_requests"],
        ]

    before = counts()
    with calling(loans.rpc) as call:
        call("ModelInfer", raw(columns([ALLOWED, ABSTAINED]), "loans"))
    refused(loans, raw({}, "loans"))
    refused(loans, messages.ModelReadyRequest(name="nobody"), "ModelReady")
    after = counts()
    assert [a - b for a, b in zip(after[:-1], before[:-1], strict=True)] == [1, 1, 1, 2, 2]
    assert after[-1] == before[-1]


def test_the_deadline_is_the_callers(numbers: Speaker) -> None:
    """A caller's deadline ends the call on both sides, and its rows are not counted."""
    before = numbers.gateway.metrics()
    late = [f'guardhouse_requests_total{{code="{code}",route="grpc:ModelInfer"}}' for code in ("499", "504")]
    with numbers.gateway.holding_naps():
        code, _ = refused(numbers, nap(HELD), timeout=0.3)
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        numbers.gateway.wait_for(lambda metrics: sum(metrics[name] - before[name] for name in late) == 1)
    numbers.gateway.wait_for(lambda metrics: metrics["guardhouse_inflight_requests"] == 0)
    with calling(numbers.rpc) as call:
        call("ModelInfer", nap(0.0))  # behind the nap
    moved = differing(numbers.gateway.metrics(), before)
    assert sum(rows for name, rows in moved.items() if name.startswith("guardhouse_rows_total")) == 1


def test_a_full_queue(numbers: Speaker) -> None:
    """If the queue is full, the call is UNAVAILABLE at once, and the metrics count the reason."""
    series = 'guardhouse_shed_requests_total{reason="queue_full"}'
    before = numbers.gateway.metrics()
    codes: list[Any] = []

    def ask(message: Any) -> None:
        with calling(numbers.rpc) as call:
            try:
                call("ModelInfer", message)
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as told:
                codes.append(told.code())

    rows = {name: np.ones(8, dtype=np.float32) for name in "abc"}
    asleep, *threads = [
        threading.Thread(target=ask, args=(message,)) for message in (nap(HELD), *[raw(rows, "value")] * 3)
    ]
    with numbers.gateway.holding_naps():
        asleep.start()
        numbers.gateway.wait_for(lambda metrics: metrics[ON_THE_DEVICE] > before[ON_THE_DEVICE])
        for thread in threads:
            thread.start()
        numbers.gateway.wait_for(lambda metrics: metrics[series] - before[series] == 2)  # there is room for one
    for thread in (asleep, *threads):
        thread.join()
    assert sorted(code.name for code in codes) == ["OK", "OK", "UNAVAILABLE", "UNAVAILABLE"]


def test_it_listens_where_http_does(loans: Speaker) -> None:
    """A server for this machine alone has no gRPC for others."""
    port = int(loans.rpc.rpartition(":")[2])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", port)) != 0


def test_a_port_that_is_taken(bundles: Any, loans: Speaker) -> None:
    """If the port is taken, the server does not start, and the error names the key."""
    import yaml

    path = bundles.config("table")
    config = yaml.safe_load(path.read_text())
    config["server"]["grpc_port"] = int(loans.rpc.rpartition(":")[2])
    changed = path.with_name("taken.yaml")
    changed.write_text(yaml.safe_dump(config))
    gateway = bundles.serve("table", config=changed, by_command=True)
    assert gateway.wait() == 2
    assert "server.grpc_port" in gateway.log()


def _takes_calls(address: str) -> bool:
    """Say whether a new connection is answered."""
    with calling(address) as late:
        try:
            late("ServerLive", messages.ServerLiveRequest())
        except grpc.RpcError:
            return False
    return True


def test_loading_and_leaving(bundles: Any, tmp_path: Any) -> None:
    """While the model loads calls are UNAVAILABLE; at the end those in flight are answered, and no new ones taken."""
    gate = tmp_path / "gate"
    gate.touch()
    gateway, address = start(bundles, "values", environment={"MADE_UP_BUILD_GATE": str(gate)})
    gateway.wait_listening()
    with calling(address) as call:
        assert call("ServerLive", messages.ServerLiveRequest())[0].live
        assert not call("ServerReady", messages.ServerReadyRequest())[0].ready
        with pytest.raises(grpc.RpcError) as told:
            call("ModelInfer", nap(0.0))
        assert told.value.code() == grpc.StatusCode.UNAVAILABLE
        gate.unlink()
        gateway.wait_ready()
        assert call("ServerReady", messages.ServerReadyRequest())[0].ready
        with ThreadPoolExecutor(1) as pool:
            asleep = pool.submit(call, "ModelInfer", nap(2.5))
            gateway.wait_in_flight(asleep)
            asked = time.monotonic()
            gateway.terminate()
            try:
                while call("ServerReady", messages.ServerReadyRequest())[0].ready:
                    asked = time.monotonic()
            except grpc.RpcError:
                assert time.monotonic() - asked > DRAIN_SECONDS  # this process has stalled: no calls are taken any more
            until(lambda: not _takes_calls(address))
            answer, _ = asleep.result()
    assert [output.name for output in answer.outputs] == ["value", "interval", "action", "id"]
    gateway.stop()
