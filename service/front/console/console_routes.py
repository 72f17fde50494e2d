"""The HTTP routes of the console: the front page, the console's page and its files, and the data that it shows."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import orjson

from service.front.console.page_files import CONSOLE, HEADERS, PREFIX, page_files
from service.front.http import Call, Reply, Route
from service.front.protocols.problem import Problem

__all__ = ["CODES", "DATA", "ConsoleRoutes", "Source"]

HOME = "/"
FILE, DATA = "/console/{file}", "/console/data/{name}"
PAGE_CODES = (200, 303, 400, 404, 405, 500, 504)
CODES: Mapping[str, tuple[int, ...]] = {
    HOME: (200, 303, 400, 405, 500, 504),
    CONSOLE: PAGE_CODES,
    FILE: PAGE_CODES,
    DATA: (200, 400, 404, 405, 500, 503, 504),
}
"""The status codes of each route, by its template."""
OFF = (
    "this server has no console: set `server.console: true`, or let the server listen on a loopback address, which "
    "only this machine reaches"
)
DATA_HEADERS = {"Cache-Control": "no-store"}
Source = Callable[[], Awaitable[object]]
"""Gives the document of one name under /console/data/, ready to become JSON."""


class ConsoleRoutes:
    """The routes of the front page and of the console."""

    def __init__(self, addresses: Mapping[str, str], sources: Mapping[str, Source] | None) -> None:
        """Serve the data of ``sources`` by name; None: the console is off.

        ``addresses`` says what is at each address of the server.
        """
        self._sources = sources
        self._addresses = dict(addresses) | ({} if sources is None else {CONSOLE: "The console, for people."})
        self._files = {} if sources is None else page_files()

    def routes(self) -> dict[str, Route]:
        """Return the route of every exact path."""
        routes = {HOME: Route(HOME, {"GET": self._home}, CODES[HOME], needs="nothing")}
        if self._sources is None:
            return routes | {CONSOLE: Route(CONSOLE, {"GET": self._off}, CODES[CONSOLE], needs="nothing")}
        routes[PREFIX] = Route(CONSOLE, {"GET": self._moved}, CODES[CONSOLE], needs="nothing")
        for path in self._files:
            template = CONSOLE if path == CONSOLE else FILE
            routes[path] = Route(template, {"GET": self._file}, CODES[template], needs="nothing")
        for name in self._sources:
            routes[DATA.replace("{name}", name)] = Route(DATA, {"GET": self._data}, CODES[DATA], needs="console")
        return routes

    async def _home(self, call: Call) -> Reply:
        """Lead a browser to the console, and tell everybody else which addresses there are."""
        if self._sources is not None and b"text/html" in call.headers.get(b"accept", b"").lower():
            return _redirect("console")
        return Reply(orjson.dumps({"addresses": self._addresses}), headers={"Vary": "Accept"})

    async def _off(self, _: Call) -> Reply:
        raise Problem(HTTPStatus.NOT_FOUND, OFF)

    async def _moved(self, _: Call) -> Reply:
        return _redirect("../console")

    async def _file(self, call: Call) -> Reply:
        body, content_type = self._files[call.path]
        return Reply(body, content_type=content_type, headers=HEADERS)

    async def _data(self, call: Call) -> Reply:
        assert self._sources is not None  # noqa: S101 - without sources there is no such route
        document = await self._sources[call.path.rpartition("/")[2]]()
        return Reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), headers=DATA_HEADERS)


def _redirect(location: str) -> Reply:
    """Lead to a location that is relative to the request's, so that a proxy may serve everything under a prefix."""
    return Reply(b"", HTTPStatus.SEE_OTHER, headers={"Location": location, "Vary": "Accept"})
