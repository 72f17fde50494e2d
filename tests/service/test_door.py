"""Door: what it answers itself, and what it passes on."""

import asyncio
from typing import Any

import pytest

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
    door.draining, door.failure, door.runtime = draining, failure, object() if loaded else None
    said = door.trouble()
    assert said is None if trouble is None else trouble in said
