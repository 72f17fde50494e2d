"""Where bodies are decoded: small ones on the event loop, and beside it what takes long."""

import asyncio
import base64
import io
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from toys import document, schema

from guards.config import parse
from service import handlers
from service.handlers import LARGE_BODY, PREDICT_PARAMETERS
from service.http import Call
from service.protocols import v1

IMAGE = [[[0.5] * 6] * 6]


def picture() -> str:
    """Write a small PNG."""
    file = io.BytesIO()
    Image.new("L", (6, 6), 51).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def decode(monkeypatch: pytest.MonkeyPatch, body: bytes, kind: str) -> tuple[v1.Request, bool]:
    """Decode a body as a request does; also tell whether that was on the event loop's own thread."""
    threads: list[threading.Thread] = []
    by_v1 = v1.decode

    def watched(*arguments: Any, **named: Any) -> v1.Request:
        threads.append(threading.current_thread())
        return by_v1(*arguments, **named)

    monkeypatch.setattr(handlers.v1, "decode", watched)
    bundle = SimpleNamespace(schema=schema(kind))
    runtime: Any = SimpleNamespace(bundle=bundle, config=parse(document(kind)), request_groups={})
    call = Call("POST", "/predict", {}, "request", 0.0)
    call.body = body
    request = asyncio.run(handlers.read(call, runtime, PREDICT_PARAMETERS))
    return request, threads == [threading.main_thread()]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"instances": [{"b64": picture()}]}),
        json.dumps({"instances": [IMAGE, {"b64": picture()}]}),
        json.dumps({"instances": [{"b64": picture()}]}).replace("b64", r"\u006264"),
        json.dumps({"instances": [{"b64": picture()}]}).replace("b64", r"b\u00364"),
    ],
    ids=["one", "one of two", "an escaped key", "another"],
)
def test_encoded_images_never_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """However small the body and however its key is written, a file in it is unpacked on another thread."""
    assert len(body) < LARGE_BODY
    request, on_loop = decode(monkeypatch, body.encode(), "image")
    assert not on_loop
    assert request.x[-1].ravel().tolist() == pytest.approx([0.2] * 36)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps({"instances": [IMAGE]}), "image"),
        (json.dumps({"instances": [[1.5, 2, 3, "b64"]]}), "tabular"),
        (json.dumps({"instances": [[0.5] * 5], "ids": ["\u00e9"]}), "tensor"),
    ],
    ids=["numbers of an image", "a table", "a tensor"],
)
def test_small_numbers_stay_on_the_event_loop(monkeypatch: pytest.MonkeyPatch, body: str, kind: str) -> None:
    """A thread hop costs more than reading a few numbers."""
    _, on_loop = decode(monkeypatch, body.encode(), kind)
    assert on_loop


def test_large_bodies_never_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers without end are read on another thread, too."""
    body = json.dumps({"instances": [[0.5] * 5]}) + " " * LARGE_BODY
    _, on_loop = decode(monkeypatch, body.encode(), "tensor")
    assert not on_loop
