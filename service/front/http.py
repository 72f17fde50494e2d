"""The types that HTTP handlers use: a call, its reply, and a route."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from service.front.admission import Needs
from service.quotas.budget import Connection

__all__ = ["JSON", "OCTETS", "Call", "Handler", "Head", "Message", "Receive", "Reply", "Route", "Send", "Write"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
JSON = "application/json"
OCTETS = "application/octet-stream"


@dataclass(slots=True, eq=False)
class Head:
    """The head of a request. The names of ``fields`` are in lower case."""

    method: str
    path: str
    fields: list[tuple[bytes, bytes]]
    query: str = ""
    """The part of the URL after the question mark, as the client sent it."""
    client: str = ""
    """The address of the peer; empty if the server does not know the address."""
    connection: Connection | None = None
    """The connection; None if the caller does not matter to it."""
    waited: float = 0.0
    """How many seconds the request waited in the system before the server read it."""


@dataclass(slots=True, eq=False)
class Call:
    """A request that is within the limits; ``deadline`` is in seconds of the event loop's clock."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    request_id: str
    deadline: float
    body: bytes = b""
    query: str = ""
    """The part of the URL after the question mark, as the client sent it."""
    client: str = ""
    """The address of the client, which is not the peer's if a trusted proxy is between; empty if it is not known."""


@dataclass(slots=True, eq=False)
class Reply:
    """The answer to a call."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Reply]]
Write = Callable[[Reply, str, bool], Awaitable[None]]
"""Writes a reply with the request's id. If the last argument is true, the connection is closed afterwards."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A path template, its handlers by method, and every status code that the handlers may answer with."""

    template: str
    handlers: Mapping[str, Handler]
    codes: tuple[int, ...]
    binary: bool = False
    """Whether a body may also be application/octet-stream."""
    direct: bool = False
    """Whether a small request that has arrived whole is answered without ASGI (:mod:`service.front.direct`)."""
    needs: Needs = "a key"
    """What a caller needs if the server has keys."""
