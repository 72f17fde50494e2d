"""The routes of the front page and of the console."""

import asyncio

import orjson
import pytest

from service.front.console.console_routes import ConsoleRoutes
from service.front.http import Call, Reply
from service.front.protocols.problem import Problem

ADDRESSES = {"/docs": "This document, for people."}


async def _now() -> dict[str, list[int]]:
    return {"times": [1]}


def reply(routes: ConsoleRoutes, path: str, accept: bytes = b"*/*") -> Reply:
    handler = routes.routes()[path].handlers["GET"]
    answer: Reply = asyncio.run(handler(Call("GET", path, {b"accept": accept}, "id", 0.0)))  # type: ignore[arg-type]
    return answer


ON, OFF = ConsoleRoutes(ADDRESSES, {"now": _now}), ConsoleRoutes(ADDRESSES, None)


@pytest.mark.parametrize(("path", "location"), [("/", "console"), ("/console/", "../console")])
def test_a_browser_is_led_to_the_page(path: str, location: str) -> None:
    """Locations are relative, so that they hold behind a proxy that serves everything under a prefix."""
    answer = reply(ON, path, b"text/html,application/xhtml+xml")
    assert (answer.status, answer.headers["Location"]) == (303, location)


def test_a_program_gets_the_addresses() -> None:
    """The front page lists the addresses; the console is among them if it is on."""
    assert orjson.loads(reply(ON, "/").body)["addresses"].keys() == {"/docs", "/console"}
    assert orjson.loads(reply(OFF, "/", b"text/html").body) == {"addresses": ADDRESSES}


def test_the_page_needs_no_key_and_its_data_a_scope() -> None:
    """Whoever opens the page is asked for a key by the page; the data are for keys with the scope `console` alone."""
    needs = {path: route.needs for path, route in ON.routes().items()}
    assert {path for path, need in needs.items() if need == "console"} == {"/console/data/now"}
    assert {need for path, need in needs.items() if "/data/" not in path} == {"nothing"}


def test_a_file_carries_the_policy() -> None:
    """The page and every file forbid what they do not need, and are checked anew at each visit."""
    for path in ("/console", "/console/app.js"):
        headers = reply(ON, path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-cache")


def test_data_are_not_kept() -> None:
    """No cache keeps the data."""
    answer = reply(ON, "/console/data/now")
    assert (orjson.loads(answer.body), answer.headers["Cache-Control"]) == ({"times": [1]}, "no-store")


def test_a_console_that_is_off_says_so() -> None:
    """There is no page, and the answer says how to get one."""
    with pytest.raises(Problem, match=r"server\.console"):
        reply(OFF, "/console")
    assert OFF.routes().keys() == {"/", "/console"}


def test_templates_are_a_closed_set() -> None:
    """However many files the page has, the metrics have four routes of it."""
    assert {route.template for route in ON.routes().values()} == {
        "/", "/console", "/console/{file}", "/console/data/{name}",
    }  # fmt: skip
