"""Very many hostile requests from one seed: no fault, no restart, no new series, no growth, a short log."""

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import grpc
import psutil
import pytest
from example_folders import ALLOWED
from fresh_client import FRESH
from gateways import STALL_SECONDS
from hostile_requests import Attack, Sound, attacks, messages
from v2_client import Speaker, binary_request, columns, json_request, start

from service.front.protocols import grpc_predict_v2_pb2 as wire

if TYPE_CHECKING:
    from conftest import Bundles

SEED = 20261130
QUICK, LONG = 2_000, 100_000
EFFORTS = [pytest.param(QUICK, id="quick"), pytest.param(LONG, id="long", marks=pytest.mark.slow)]
RPC_SHARE = 4
"""One gRPC message for so many requests by HTTP."""
BETWEEN = 50
"""A sound request is sent after so many hostile ones."""
STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)
OWN_FAULTS = {500, 502, 504}
"""503 says that the server is busy, and 501 and 505 that a request asks for what no server of this kind does."""
MOST_GROWTH, MOST_LOG_BYTES = 0.05, 300
FAULTS_OF_GRPC = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
ROW = ALLOWED | {"trap": 0.61234}
JSON = b"Content-Type: application/json"


@pytest.fixture(scope="module")
def attacked(bundles: "Bundles") -> "Iterator[Speaker]":
    """Serve a classifier of a table over HTTP and gRPC to attackers alone."""
    gateway, rpc = start(bundles, "table")
    gateway.expected += ["Traceback"]
    yield Speaker(gateway.wait_ready(), rpc)
    gateway.stop()


def sound_requests(speaker: "Speaker") -> list[Sound]:
    """Give one sound request for each kind of route."""
    name = speaker.gateway.name.encode()
    arrays = columns([ROW, ROW])
    body = json.dumps({"instances": [ROW, ROW], "ids": ["a", "b"], "parameters": {"detail": True}}).encode()
    binary, headers = binary_request(arrays)
    model, v2 = b"/v1/models/" + name, b"/v2/models/" + name
    explain = json.dumps({"instances": [ROW], "parameters": {"method": "feature_ablation"}}).encode()
    outcomes = json.dumps({"outcomes": [{"id": "a", "label": "yes"}, {"id": "b", "label": "no"}]}).encode()
    written = tuple(f"{key}: {value}".encode() for key, value in headers.items())
    return [
        Sound(b"POST", b"/predict", (JSON,), body),
        Sound(b"POST", model + b":predict", (JSON,), body),
        Sound(b"POST", v2 + b"/infer", (JSON,), json.dumps(json_request(arrays)).encode()),
        Sound(b"POST", v2 + b"/infer", written, binary),
        Sound(b"POST", model + b":explain", (JSON,), explain),
        Sound(b"POST", model + b":feedback", (JSON,), outcomes),
        *(
            Sound(b"GET", path, (), b"")
            for path in (b"/metrics", b"/readyz", model + b"/monitors", b"/v1/explanations/x")
        ),
    ]


def sent(port: int, attack: Attack) -> list[int]:
    """Send an attack, close the sending side, and give the statuses of all answers."""
    received = []
    with socket.create_connection(("127.0.0.1", port), timeout=STALL_SECONDS) as connection, suppress(OSError):
        connection.sendall(attack.data)
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(1 << 16):
            received.append(data)
    return [int(status) for status in STATUS.findall(b"".join(received))]


def memory_of(processes: list[psutil.Process]) -> int:
    """Give the resident bytes of some processes together."""
    return sum(process.memory_info().rss for process in processes)


@pytest.mark.parametrize("effort", EFFORTS)
def test_nothing_that_is_sent_makes_a_fault(attacked: "Speaker", effort: int) -> None:
    """No fault of the server, no restart, no series more, memory within 5 %, and 300 bytes of log for a request."""
    gateway = attacked.gateway
    sound = sound_requests(attacked)
    for request in sound:
        assert sent(gateway.port, Attack("sound", request.written())) in ([200], [404]), request
    hostile, rpc = attacks(SEED, sound), messages(SEED, rpc_messages(attacked))
    codes, faults = Counter[str](), list[object]()

    def attack(count: int) -> None:
        with grpc.insecure_channel(attacked.rpc) as channel:
            for number, one in enumerate(islice(hostile, count)):
                for status in sent(gateway.port, one):
                    codes[str(status)] += 1
                    if status in OWN_FAULTS:
                        faults.append((status, one))
                if number % RPC_SHARE == 0:
                    method, message = next(rpc)
                    code = called(channel, method, message)
                    codes[str(code)] += 1
                    if code in FAULTS_OF_GRPC:
                        faults.append((code, method, message))
                if number % BETWEEN == 0:
                    answer = FRESH.post(f"{gateway.url}/predict", json={"instances": [ROW]}, timeout=STALL_SECONDS)
                    assert answer.status_code == 200, answer.text

    attack(effort // 4)  # every buffer and cache has its size now
    processes = [*gateway.fronts, gateway.engine, *gateway.store_processes]
    resident, series, log = memory_of(processes), set(gateway.metrics()), gateway.log_path.stat().st_size
    attack(effort - effort // 4)
    assert not faults, faults[:5]
    assert [process.pid for process in (*gateway.fronts, gateway.engine, *gateway.store_processes)] == [
        process.pid for process in processes
    ]
    assert set(gateway.metrics()) == series
    growth = memory_of(processes) / resident - 1
    lines = (gateway.log_path.stat().st_size - log) / (effort - effort // 4)
    print(f"{effort} hostile requests: {dict(codes)}, memory {growth:+.1%}, {lines:.0f} bytes of log a request")  # noqa: T201
    assert growth <= MOST_GROWTH
    assert lines <= MOST_LOG_BYTES


def rpc_messages(speaker: "Speaker") -> list[bytes]:
    """Give sound messages of gRPC as bytes."""
    name = speaker.gateway.name
    infer = wire.ModelInferRequest(model_name=name)
    for column, values in columns([ROW]).items():
        tensor = infer.inputs.add(name=column, shape=[1])
        if values.dtype == object:
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.append(str(values[0]).encode())
        else:
            tensor.datatype = "FP32"
            tensor.contents.fp32_contents.append(float(values[0]))
    metadata = wire.ModelMetadataRequest(name=name)
    return [infer.SerializeToString(), metadata.SerializeToString(), b""]


def called(channel: grpc.Channel, method: str, message: bytes) -> grpc.StatusCode:
    """Call a method with bytes, and give the call's code."""
    try:
        channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(message, timeout=STALL_SECONDS)
    except grpc.RpcError as failure:
        code: grpc.StatusCode = failure.code()
        return code
    return grpc.StatusCode.OK
