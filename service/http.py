"""One HTTP call and its reply, as the handlers see them."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

__all__ = ["JSON", "OCTETS", "Call", "Handler", "Message", "Receive", "Reply", "Route", "Send"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
JSON = "application/json"
OCTETS = "application/octet-stream"


@dataclass(slots=True, eq=False)
class Call:
    """A request that passed the limits: its body is read, its deadline set."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    request_id: str
    deadline: float
    body: bytes = b""
    query: str = ""
    """What follows the question mark, as it was sent."""
    client: str = ""
    """The address of the peer; empty where the server does not know it."""


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """What to answer."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A path template, what answers it by method, and every status it may answer with."""

    template: str
    handlers: Mapping[str, Handler]
    codes: tuple[int, ...]
    binary: bool = False
    """Whether a body may be application/octet-stream, too."""
