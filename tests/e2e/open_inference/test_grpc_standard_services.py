"""gRPC services beside predictions: health, reflection, pings, and the extensions of Triton's clients."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from example_folders import ALLOWED
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from v2_client import Speaker, columns, head, start
from waiting import until

from service.front.grpc_server import MAX_STREAMS
from service.front.grpc_standard_services import HEALTH, REFLECTION, SERVICE
from service.front.protocols import grpc_health_v1_pb2 as health
from service.front.protocols import grpc_reflection_v1_pb2 as reflection
from service.lifecycle.shutdown import DRAIN_SECONDS

STATES = health.HealthCheckResponse
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0)[1:] + bytes([4, 0]) + bytes(4)
PING, GOAWAY, TOO_MANY_PINGS = 6, 7, b"too_many_pings"


@contextlib.contextmanager
def channel(address: str) -> Iterator[Any]:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as opened:
        yield opened


def check(opened: Any, service: str = "") -> int:
    """Ask for health as a probe does."""
    call = opened.unary_unary(f"/{HEALTH}/Check")
    answer = call(health.HealthCheckRequest(service=service).SerializeToString(), timeout=120)
    return int(STATES.FromString(answer).status)


def watch(opened: Any, service: str = "", timeout: float = 300) -> Any:
    call = opened.unary_stream(f"/{HEALTH}/Watch", response_deserializer=STATES.FromString)
    return call(health.HealthCheckRequest(service=service).SerializeToString(), timeout=timeout)


def test_health_of_the_server_and_its_service(loans: Speaker) -> None:
    """The server and its service are SERVING; no other service is known."""
    with channel(loans.rpc) as opened:
        assert check(opened) == check(opened, SERVICE) == STATES.SERVING
        with pytest.raises(grpc.RpcError) as told:
            check(opened, "somebody")
        assert told.value.code() == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as told:
            opened.unary_unary(f"/{HEALTH}/Check")(b"\xff", timeout=120)
        assert told.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        watching = watch(opened, "somebody")
        assert next(watching).status == STATES.SERVICE_UNKNOWN
        watching.cancel()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Give a file that keeps a model from being built, as long as the file exists."""
    path = tmp_path / "gate"
    path.touch()
    return path


def test_health_while_loading_and_leaving(bundles: Any, gate: Path) -> None:
    """A watch gets each change at once, when the model is loaded and when the server drains, and delays no end."""
    gateway, address = start(bundles, "values", environment={"MADE_UP_BUILD_GATE": str(gate)})
    gateway.wait_listening()
    with channel(address) as opened:
        assert check(opened) == STATES.NOT_SERVING
        watching = watch(opened, SERVICE)
        assert next(watching).status == STATES.NOT_SERVING
        gate.unlink()
        assert next(watching).status == STATES.SERVING
        assert gateway.wait_ready()
        told = time.monotonic()
        gateway.terminate()
        assert next(watching).status == STATES.NOT_SERVING
        try:
            assert check(opened) == STATES.NOT_SERVING
        except grpc.RpcError:
            assert time.monotonic() - told > DRAIN_SECONDS  # this process has stalled: no calls are taken any more
        assert next(watching, None) is None
    gateway.stop()


def test_watches_are_bounded(loans: Speaker) -> None:
    """More watches than there may be are refused, count for no request in flight, and leave room when they end."""
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(channel(loans.rpc))
        watching = [watch(opened) for _ in range(MAX_STREAMS)]
        assert all(next(one).status == STATES.SERVING for one in watching)
        with pytest.raises(grpc.RpcError) as told:
            next(watch(opened))
        assert told.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert check(opened) == STATES.SERVING
        assert loans.gateway.metrics()["guardhouse_inflight_requests"] == 0
        for one in watching:
            one.cancel()
        until(lambda: _is_served(opened))


def _is_served(opened: Any) -> bool:
    """Say whether there is room for one more watch."""
    with contextlib.suppress(grpc.RpcError):
        return bool(next(watch(opened, timeout=120)).status == STATES.SERVING)
    return False


@pytest.mark.parametrize("name", REFLECTION)
def test_reflection(loans: Speaker, name: str) -> None:
    """Tools find the services and the definition of each; for an unknown service they get the status NOT_FOUND."""
    asked = [
        {"list_services": ""},
        {"file_containing_symbol": SERVICE},
        {"file_containing_symbol": f"{SERVICE}.ModelInfer"},
        {"file_containing_symbol": "inference.ModelInferRequest.InferInputTensor.contents"},
        {"file_containing_symbol": HEALTH},
        {"file_containing_symbol": REFLECTION[0]},
        {"file_by_filename": "grpc_predict_v2.proto"},
        {"file_containing_symbol": f"{SERVICE}.Nothing"},
        {"file_by_filename": "/etc/passwd"},
        {"all_extension_numbers_of_type": "inference.ModelInferRequest"},
    ]
    with channel(loans.rpc) as opened:
        call = opened.stream_stream(
            f"/{name}/ServerReflectionInfo", response_deserializer=reflection.ServerReflectionResponse.FromString
        )
        questions = (reflection.ServerReflectionRequest(**one).SerializeToString() for one in asked)
        answers = list(call(questions, timeout=120))
    listed, *files, unknown, secret, extensions = answers
    assert [one.name for one in listed.list_services_response.service] == sorted((SERVICE, HEALTH, REFLECTION[0]))
    found = [FileDescriptorProto.FromString(one.file_descriptor_response.file_descriptor_proto[0]) for one in files]
    packages = ["inference", "inference", "inference", "grpc.health.v1", "grpc.reflection.v1", "inference"]
    assert [file.package for file in found] == packages
    methods = {method.name for method in found[0].service[0].method}
    assert {"ModelInfer", "ModelConfig", "RepositoryIndex"} <= methods
    for one in (unknown, secret):
        assert one.error_response.error_code == 5
    assert extensions.all_extension_numbers_response.base_type_name == "inference.ModelInferRequest"


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Read HTTP/2 frames until the connection ends."""
    stream = connection.makefile("rb")
    while len(start := stream.read(9)) == 9:
        yield start[3], stream.read(int.from_bytes(start[:3]))


def ping(loans: Speaker, interval: float, count: int) -> bytes:
    """Ping an idle connection, and return what the server said at its end."""
    host, _, port = loans.rpc.rpartition(":")
    told = b""
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(PREFACE)

        def listen() -> None:
            nonlocal told
            with contextlib.suppress(OSError):
                for kind, content in frames(connection):
                    if kind == GOAWAY:
                        told = content
                        return

        thread = threading.Thread(target=listen)
        thread.start()
        for _ in range(count):
            with contextlib.suppress(OSError):
                connection.sendall(bytes([0, 0, 8, PING, 0]) + bytes(12))
            time.sleep(interval)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        thread.join()
    return told


def test_pings_keep_a_connection(loans: Speaker) -> None:
    """A client that pings an idle connection every few seconds keeps it; a client that floods it is disconnected."""
    assert TOO_MANY_PINGS not in ping(loans, 1.2, 6)
    assert TOO_MANY_PINGS in ping(loans, 0.02, 50)


# Triton


@pytest.mark.parametrize("server", ["loans", "colours", "numbers"])
def test_config_of_a_model(request: pytest.FixtureRequest, server: str) -> None:
    """Triton's clients get one config over both transports: the tensors of the metadata, without the batch."""
    from tritonclient import grpc as triton_grpc
    from tritonclient import http as triton_http

    speaker: Speaker = request.getfixturevalue(server)
    name = speaker.gateway.name
    with triton_http.InferenceServerClient(speaker.gateway.url.removeprefix("http://")) as client:
        by_http = client.get_model_config(name)
        described = client.get_model_metadata(name)
        assert client.get_model_config(name, described["versions"][0]) == by_http
    with triton_grpc.InferenceServerClient(speaker.rpc) as client:
        by_grpc = client.get_model_config(name, as_json=True)["config"]
        with pytest.raises(Exception, match="no such model"):
            client.get_model_config("nobody")
    assert by_http["max_batch_size"] == by_grpc["max_batch_size"] > 0
    for side in ("input", "output"):
        tensors = [{**one, "dims": list(map(int, one["dims"]))} for one in by_grpc[side]]
        assert tensors == by_http[side]
        for told, spec in zip(by_http[side], described[f"{side}s"], strict=True):
            assert told["name"] == spec["name"]
            assert told["data_type"] == f"TYPE_{spec['datatype'].replace('BYTES', 'STRING')}"
            assert told["dims"] == (spec["shape"][1:] or [1])


def test_statistics_of_a_model(loans: Speaker) -> None:
    """Rows, batches and requests are counted since the start, whichever door they came by."""
    from tritonclient import grpc as triton_grpc
    from tritonclient import http as triton_http

    with (
        triton_http.InferenceServerClient(loans.gateway.url.removeprefix("http://")) as client,
        triton_grpc.InferenceServerClient(loans.rpc) as remote,
    ):

        def executions() -> int:
            return int(client.get_inference_statistics("loans")["model_stats"][0]["execution_count"])

        before = client.get_inference_statistics("loans")["model_stats"][0]
        tensors = []
        for name, array in columns([ALLOWED] * 3).items():
            tensors.append(triton_grpc.InferInput(name, [3], head(name, array)["datatype"]))
            tensors[-1].set_data_from_numpy(array)
        remote.infer("loans", tensors)
        loans.gateway.predict([ALLOWED])
        loans.gateway.client.post(loans.infer_path, json={"inputs": []})
        until(lambda: executions() - before["execution_count"] == 2)  # batches are counted after their answers
        after = client.get_inference_statistics()["model_stats"][0]
        by_grpc = remote.get_inference_statistics("loans", as_json=True)["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 2
    assert abs(after["last_inference"] / 1000 - time.time()) < 60
    spent, earlier = after["inference_stats"], before["inference_stats"]
    assert spent["success"]["count"] - earlier["success"]["count"] == 2
    assert spent["fail"]["count"] - earlier["fail"]["count"] == 1
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert spent[stage]["count"] - earlier[stage]["count"] == 2
        assert spent[stage]["ns"] > earlier[stage]["ns"]
    assert int(by_grpc["inference_count"]) == after["inference_count"]
    assert int(by_grpc["inference_stats"]["success"]["count"]) == spent["success"]["count"]
    assert np.isfinite(spent["success"]["ns"])


def test_index_of_models(loans: Speaker) -> None:
    """The one model is listed with its state; loading and unloading are refused in a sentence."""
    from tritonclient import grpc as triton_grpc
    from tritonclient import http as triton_http

    expected = {"name": "loans", "version": "2024.1", "state": "READY"}
    with triton_http.InferenceServerClient(loans.gateway.url.removeprefix("http://")) as client:
        assert client.get_model_repository_index() == [{**expected, "reason": ""}]
        for change in (client.load_model, client.unload_model):
            with pytest.raises(Exception, match="not loaded or unloaded here"):
                change("loans")
    with triton_grpc.InferenceServerClient(loans.rpc) as client:
        assert client.get_model_repository_index(as_json=True) == {"models": [expected]}
        for change in (client.load_model, client.unload_model):
            with pytest.raises(Exception, match="not loaded or unloaded here"):
                change("loans")
    post = loans.gateway.client.post
    assert post("/v2/repository/index", json={"ready": True}).json() == [{**expected, "reason": ""}]
    for body in ({"ready": 1}, []):
        assert post("/v2/repository/index", json=body).status_code == 422


def test_index_while_loading(bundles: Any, gate: Path) -> None:
    """A model that is not ready is listed with the reason, and not among those that are."""
    gateway, _ = start(bundles, "values", environment={"MADE_UP_BUILD_GATE": str(gate)})
    gateway.wait_listening()
    post = gateway.client.post
    (told,) = post("/v2/repository/index", json={}).json()
    assert (told["state"], told["reason"]) == ("UNAVAILABLE", "the model is still loading")
    assert post("/v2/repository/index", json={"ready": True}).json() == []
    gate.unlink()
    gateway.wait_ready()
    gateway.stop()
