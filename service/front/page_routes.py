"""The HTTP routes of documents: the OpenAPI document, the page for people, and the schema for BentoML's clients."""

from collections.abc import Awaitable, Callable, Mapping

from service.front.http import Call, Reply, Route
from service.front.openapi.document import PAGES

__all__ = ["CODES", "SCHEMA", "Document", "PageRoutes", "keyless"]

SCHEMA = "/schema.json"
CODES: Mapping[str, tuple[int, ...]] = dict.fromkeys((*PAGES, SCHEMA), (200, 400, 405, 500, 504))
"""The status codes of each route, by its path."""
Document = Callable[[], Awaitable[bytes]]
"""Gives a JSON document."""


def keyless(routes: Mapping[str, Route]) -> frozenset[str]:
    """Return the paths of the routes that need no key."""
    return frozenset(path for path, route in routes.items() if route.needs == "nothing")


class PageRoutes:
    """The routes of the documents of one server."""

    def __init__(self, pages: Mapping[str, tuple[bytes, str]], schema: Document | None) -> None:
        """Serve ``pages`` (body and media type by path) unchanged, and the ``schema``, if there is one."""
        self._pages, self._schema = pages, schema

    def routes(self) -> dict[str, Route]:
        """Return the route of every path."""
        routes = {path: Route(path, {"GET": self._page}, CODES[path]) for path in self._pages}
        if self._schema is not None:
            schema = self._schema

            async def described(_: Call) -> Reply:
                return Reply(await schema())

            routes[SCHEMA] = Route(SCHEMA, {"GET": described}, CODES[SCHEMA])
        return routes

    async def _page(self, call: Call) -> Reply:
        body, content_type = self._pages[call.path]
        return Reply(body, content_type=content_type)
