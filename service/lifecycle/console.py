"""Whether a front serves the console, and the routes of the front page and of the console."""

from collections.abc import Mapping

import orjson

from service.front.console.console_routes import ConsoleRoutes
from service.front.console.sources import Sources
from service.front.http import Route
from service.front.openapi.document import OPENAPI
from service.lifecycle.exposure import is_loopback
from service.messages.served_model import ServedModel

__all__ = ["console_routes", "has_console"]


def has_console(served: ServedModel, address: tuple[str, int] | None) -> bool:
    """Return whether the server has a console: as the config says, or if only this machine reaches the server."""
    said = served.server.console
    return said if said is not None else address is not None and is_loopback(address[0])


def console_routes(documents: Mapping[str, tuple[bytes, str]], sources: Sources | None) -> dict[str, Route]:
    """Make the routes of the front page and, with ``sources``, of the console; ``documents`` describe the others."""
    paths = orjson.loads(documents[OPENAPI][0])["paths"]
    addresses = {path: next(iter(methods.values()))["summary"] for path, methods in paths.items()}
    return ConsoleRoutes(addresses, None if sources is None else sources.by_name()).routes()
