"""The v2 routes: which requests are decoded by known heads, and in which thread."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from idle_limit import idle_limit
from image_files import png
from local_engine import LocalEngine, served_model_of
from tiny_models import fitted
from v2_client import HEADER, binary_request

from service.front.http import Call
from service.front.prediction import Prediction
from service.front.protocols import v2
from service.front.protocols.v2_known_heads import KnownHeads
from service.front.readiness import Readiness
from service.front.v2_routes import LARGE_BODY, V2Routes
from service.messages.served_model import ServedModel
from service.telemetry.metrics.front import FrontMetrics

PATH = "/v2/models/toy/infer"
IMAGE = np.full((1, 1, 6, 6), 0.5, dtype=np.float32)
FILE = np.array([png(pixels=np.zeros((6, 6), dtype=np.uint8))], dtype=object)


def infer(routes: V2Routes, arrays: dict[str, Any], **more: Any) -> int:
    """Send a binary request to the route; return the status of its answer."""
    body, headers = binary_request(arrays, **more)

    async def main() -> int:
        call = Call("POST", PATH, {HEADER.lower().encode(): headers[HEADER].encode()}, "request", float("inf"))
        call.body = body
        reply = await routes.routes()[PATH].handlers["POST"](call)
        return int(reply.status)

    return asyncio.run(main())


@pytest.fixture
def routes() -> V2Routes:
    """Serve a small image model."""
    bundle = fitted("image").bundle
    engine, metrics = LocalEngine(bundle), FrontMetrics({})
    readiness = Readiness(engine, lambda: False)
    return V2Routes(
        served_model_of(bundle), readiness=readiness, prediction=Prediction(engine, metrics.stages, idle_limit())
    )


@pytest.mark.parametrize(
    ("arrays", "more"),
    [({"x": FILE}, {}), ({"x": IMAGE}, {"parameters": {"padding": "y" * LARGE_BODY}})],
    ids=["files", "a large body"],
)
def test_threads_use_no_known_heads(
    monkeypatch: pytest.MonkeyPatch, routes: V2Routes, arrays: dict[str, Any], more: dict[str, Any]
) -> None:
    """A slow request is decoded in a thread, where the known heads, which only one thread may use, are not used."""
    threads: list[threading.Thread] = []
    plain, by_heads = v2.decode, KnownHeads.decode

    def decode(body: bytes, header_length: str | None, served: ServedModel) -> v2.Inference:
        threads.append(threading.current_thread())
        return plain(body, header_length, served)

    def decode_by_heads(heads: KnownHeads, body: bytes, header_length: str | None) -> v2.Inference:
        assert threading.current_thread() is threading.main_thread()
        return by_heads(heads, body, header_length)

    monkeypatch.setattr(v2, "decode", decode)
    monkeypatch.setattr(KnownHeads, "decode", decode_by_heads)
    for _ in range(3):
        assert infer(routes, arrays, **more) == 200
    assert len(threads) == 3
    assert threading.main_thread() not in threads


def test_plain_requests_use_known_heads(monkeypatch: pytest.MonkeyPatch, routes: V2Routes) -> None:
    """The third request with a head is answered without parsing, in the event loop's own thread."""
    for _ in range(2):
        assert infer(routes, {"x": IMAGE}) == 200
    monkeypatch.delattr("service.front.protocols.v2_known_heads.decode")
    assert infer(routes, {"x": IMAGE}) == 200
