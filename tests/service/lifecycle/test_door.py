"""The outermost application of a front: what it answers itself, and what it passes on."""

import asyncio
import logging
from typing import Any

import pytest

from guards.errors import Mistake
from service.lifecycle.door import Door


async def _behind(scope: Any, _: Any, send: Any) -> None:
    await send({"type": "behind", "path": scope.get("path")})


def ask(door: Door, scope: dict[str, Any]) -> list[Any]:
    """Pass one scope through."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "lifespan.shutdown"}

    asyncio.run(door(scope, receive, send))
    return sent


def test_only_the_schema_is_passed_on() -> None:
    """BentoML behind the door sees its own schema's path and no other."""
    door = Door(_behind)
    assert ask(door, {"type": "http", "path": "/schema.json", "method": "GET"})[0]["type"] == "behind"
    for path, method in (("/schema.json", "POST"), ("/predict", "POST"), ("/", "GET"), ("/metrics", "GET")):
        assert all(
            message["type"] != "behind" for message in ask(door, {"type": "http", "path": path, "method": method})
        )


def test_without_bentoml_there_is_no_schema() -> None:
    """Started plainly, the door answers BentoML's path itself, like any other."""
    assert ask(Door(_behind, schema=False), {"type": "http", "path": "/schema.json", "method": "GET"}) == []


def test_a_front_that_cannot_start_says_so_and_stops_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake at the start reaches uvicorn, the log and the supervisor, so the front is not started for ever."""
    told: list[str] = []

    async def fail() -> None:
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
