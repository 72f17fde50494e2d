"""Door: what it answers itself, and what it passes on."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from service.closing import Step
from service.door import Door


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


@pytest.mark.parametrize(
    ("draining", "failure", "loaded", "trouble"),
    [
        (False, None, False, "loading"),
        (False, "the model cannot be served: x", False, "cannot be served: x"),
        (True, None, True, "shutting down"),
        (False, None, True, None),
    ],
)
def test_trouble_says_why(draining: bool, failure: str | None, loaded: bool, trouble: str | None) -> None:
    """Readiness has one reason at a time: draining, a failure, loading, or none."""
    door: Any = Door(_behind)
    door.shutdown = SimpleNamespace(draining=draining)
    door.failure, door.runtime = failure, object() if loaded else None
    said = door.trouble()
    assert said is None if trouble is None else trouble in said


class Unstartable:
    """A runtime that was loaded, and cannot begin."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_a_model_that_cannot_begin_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """What fails between loading and serving is the reason why the server is not ready; it does not load for ever."""
    door: Any = Door(_behind)
    with caplog.at_level(logging.CRITICAL):
        door._open(Unstartable(), None)
    assert door.runtime is None
    assert door.trouble() == "the model cannot be served: RuntimeError; the log says where"
    assert "can't start new thread" in caplog.text


def test_every_part_is_closed() -> None:
    """A part that fails keeps no other from being closed."""
    closed: list[str] = []

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        async def close(self) -> None:
            closed.append(self.name)
            raise ValueError(self.name)

        def closing(self) -> list[Step]:
            return [Step(self.name, 1, self.close)]

        def remove(self) -> None:
            closed.append(self.name)
            raise OSError(self.name)

    door: Any = Door(_behind)
    door.explaining, door.runtime, door.tracing = Part("explaining"), Part("runtime"), Part("tracing")
    door._notice = Part("notice")
    asyncio.run(door._close())
    assert closed == ["explaining", "runtime", "tracing", "notice"]
