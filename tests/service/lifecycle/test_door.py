"""The outermost application of a front: what it answers itself, and what it passes on."""

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from guards.errors import Mistake
from service.lifecycle.door import Door


async def _behind(scope: Any, _: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{scope['method']} {scope['path']}".encode()})


def test_the_application_behind_is_asked_for_its_schema_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """BentoML behind the door gets no client's request; the front gets BentoML's document from the door."""
    asked: list[Any] = []

    async def start(schema: Any) -> None:
        asked.append(None if schema is None else await schema())
        raise InterruptedError

    monkeypatch.setattr("service.lifecycle.front_process.FrontProcess.start", start)
    monkeypatch.setattr("service.lifecycle.door.tell_to_stop", lambda **_: None)

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
        else:
            await _behind(scope, receive, send)

    for schema in (True, False):
        with contextlib.suppress(InterruptedError):
            asyncio.run(_lifespan(Door(behind, schema=schema)))
    assert asked == [b"GET /schema.json", None]


async def _lifespan(door: Door) -> None:
    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(_: Any) -> None:
        pass

    await door({"type": "lifespan", "state": {}}, receive, send)


def test_requests_before_the_start_reach_nobody() -> None:
    """Until a front has started, no request gets behind the door."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    for path in ("/schema.json", "/predict", "/", "/metrics"):
        asyncio.run(Door(_behind)({"type": "http", "path": path, "method": "GET"}, receive, send))
    assert sent == []


def test_a_front_that_cannot_start_says_so_and_stops_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake at the start reaches uvicorn, the log and the supervisor, so the front is not started for ever."""
    told: list[str] = []

    async def fail(_: Any) -> None:
        raise Mistake("GUARDHOUSE_BUNDLE: not set")

    async def behind(_: Any, receive: Any, __: Any) -> None:
        await receive()

    monkeypatch.setattr("service.lifecycle.front_process.FrontProcess.start", fail)
    monkeypatch.setattr("service.lifecycle.door.tell_to_stop", lambda *, failed: told.append(f"failed: {failed}"))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(Door(behind)({"type": "lifespan", "state": {}}, receive, send))
    assert sent == [{"type": "lifespan.startup.failed", "message": "GUARDHOUSE_BUNDLE: not set"}]
    assert told == ["failed: True"]
    assert "GUARDHOUSE_BUNDLE: not set" in caplog.text
