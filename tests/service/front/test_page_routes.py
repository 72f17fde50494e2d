"""The routes of documents."""

import asyncio

from service.front.http import Call, Reply
from service.front.page_routes import SCHEMA, PageRoutes


def reply(routes: PageRoutes, path: str) -> Reply:
    handler = routes.routes()[path].handlers["GET"]
    answer: Reply = asyncio.run(handler(Call("GET", path, {}, "id", 0.0)))  # type: ignore[arg-type]
    return answer


async def described() -> bytes:
    return b"{}"


def test_documents_are_served_as_they_were_made() -> None:
    """A page keeps its bytes and its media type; the schema is asked for when a client asks."""
    routes = PageRoutes({"/docs": (b"<html>", "text/html")}, described)
    page = reply(routes, "/docs")
    assert (page.body, page.content_type) == (b"<html>", "text/html")
    assert reply(routes, SCHEMA).body == b"{}"
    assert {route.needs for route in routes.routes().values()} == {"a key"}


def test_without_bentoml_there_is_no_schema() -> None:
    """A server without BentoML has no such path."""
    assert SCHEMA not in PageRoutes({}, None).routes()
