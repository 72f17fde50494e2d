"""Clients of gRPC that send far more than they may: the front's memory stays bounded, and others are answered."""

import itertools
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_client import calling
from http2_client import CANCEL, INITIAL_WINDOW, PING, RESET, SETTINGS, Http2, frame, head
from peak_memory import Peak
from waiting import until

from service.front.memory_room import BODIES_AT_ONCE
from service.front.protocols import grpc_predict_v2_pb2 as messages

if TYPE_CHECKING:
    from v2_client import Speaker

MEGABYTE = 1 << 20
LARGEST = 16 * MEGABYTE
BODY_BYTES = BODIES_AT_ONCE * LARGEST
SLACK = 160 * MEGABYTE
"""What sockets, streams' windows and the allocator add to what is counted."""
CONNECTIONS = 60


def _is_live(speaker: "Speaker") -> bool:
    with calling(speaker.rpc) as call, suppress(grpc.RpcError):
        return bool(call("ServerLive", messages.ServerLiveRequest())[0].live)
    return False


def _uploaded(address: str) -> bytes:
    """Send the largest message that is taken, which is no message of the method; give how the call ended."""
    with Http2(address) as connection:
        connection.begin(1)
        return connection.upload(1, bytes(LARGEST - 100))


def test_many_large_messages_have_one_bound(loans: "Speaker") -> None:
    """Sixty messages of 16 MB at once take no more than bodies may; calls are answered, and memory comes back."""
    peak = Peak(loans.gateway)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        uploads = [pool.submit(_uploaded, loans.rpc) for _ in range(CONNECTIONS)]
        while not all(upload.done() for upload in uploads):
            assert _is_live(loans)
    assert all(upload.result() for upload in uploads)
    assert peak.grown() < BODY_BYTES + SLACK < CONNECTIONS * LARGEST
    until(lambda: peak.front.memory_info().rss < peak.before + 100 * MEGABYTE, 60)


def test_calls_that_send_nothing_lose_their_places(loans: "Speaker") -> None:
    """Calls that begin and never send their message hold up other calls for a few seconds at most."""
    before = loans.gateway.metrics()['guardhouse_shed_requests_total{reason="memory"}']
    with ExitStack() as stack:
        for connection in [stack.enter_context(Http2(loans.rpc)) for _ in range(20)]:
            connection.begin(1)
        with calling(loans.rpc) as call, pytest.raises(grpc.RpcError) as refused:
            call("ModelInfer", messages.ModelInferRequest(model_name="unknown"))
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert loans.gateway.metrics()['guardhouse_shed_requests_total{reason="memory"}'] > before


def test_a_connection_has_few_streams(loans: "Speaker") -> None:
    """A connection that begins calls without end is refused all but a few, and holds little memory with those."""
    peak = Peak(loans.gateway)
    with Http2(loans.rpc) as connection:
        for stream in range(1, 2001, 2):
            connection.begin(stream)
            connection.send(frame(0, 0, stream, b"\0" + struct.pack(">I", LARGEST - 100) + bytes(10_000)))
        until(lambda: connection.receive(0.1) or len(connection.ended) >= 800 or connection.closed)
        assert _is_live(loans)
    assert peak.grown() < SLACK


def _resets() -> Callable[[], bytes]:
    streams = itertools.count(1, 2)
    return lambda: b"".join(head(stream) + frame(RESET, 0, stream, CANCEL) for stream in itertools.islice(streams, 100))


FLOODS: dict[str, Callable[[], Callable[[], bytes]]] = {
    "calls that are reset": _resets,
    "settings": lambda: lambda: frame(SETTINGS) * 1000,
    "settings of windows": lambda: lambda: frame(SETTINGS, content=struct.pack(">HI", INITIAL_WINDOW, 1000)) * 1000,
    "pings": lambda: lambda: frame(PING, content=bytes(8)) * 1000,
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_frames_take_no_memory(loans: "Speaker", name: str) -> None:
    """A client that sends frames which cost it nothing, and reads nothing, is held off; others are answered."""
    peak = Peak(loans.gateway)
    with ExitStack() as stack:
        connections = [stack.enter_context(Http2(loans.rpc, seconds=1)) for _ in range(4)]
        for connection in connections:
            some = FLOODS[name]()
            for _ in range(200):
                if not connection.send(some()):
                    break
        assert _is_live(loans)
    assert peak.grown() < 100 * MEGABYTE
    assert _is_live(loans)
