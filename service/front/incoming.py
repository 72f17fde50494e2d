"""The body of a request: what its head must say, and how it is received within the limits."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus

from service.front.http import JSON, OCTETS, Message, Receive
from service.front.memory_room import BODIES
from service.front.protocols.problem import Problem
from service.quotas.budget import Budget

__all__ = ["Incoming", "check_head"]

LENGTH_DIGITS = 18


class Incoming:
    """Receives the body of a request, and records whether more of the body may still arrive."""

    def __init__(self, receive: Receive, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._receive, self._held, self._quota_held = receive, 0, 0
        self.budget: Budget | None = None
        """What the principal may use; None if nothing bounds it."""
        self.unread = any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in fields
        )

    async def __call__(self) -> Message:
        """Receive one part of the body."""
        message = await self._receive()
        self.unread = bool(message.get("more_body"))
        return message

    def hold(self, size: int) -> None:
        """Count ``size`` bytes of the body that are held in memory.

        Raises:
            Refused: all bodies together, or those of the principal, would hold too much.
        """
        if self.budget is not None:
            self._quota_held = self.budget.hold(self._quota_held, size)
        self._held = BODIES.grow(self._held, size)

    async def read(self, most: int) -> bytes:
        """Receive the whole body of at most ``most`` bytes.

        Raises:
            asyncio.CancelledError: the client has left.
            Problem: 413, the body is too large.
            Refused: all bodies together, or those of the principal, would hold too much.
        """
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError  # as StrictProtocol cancels the task of a client that leaves later
            part = message.get("body", b"")
            size += len(part)
            if size > most:
                raise _too_large(most)
            self.hold(size)
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self) -> None:
        """Give back what was counted."""
        self._held = BODIES.grow(self._held, 0)
        if self.budget is not None:
            self._quota_held = self.budget.hold(self._quota_held, 0)


def check_head(headers: Mapping[bytes, bytes], most: int, *, binary: bool) -> None:
    """Check what a head says of a body of at most ``most`` bytes; a ``binary`` route also takes octets.

    Raises:
        Problem: 413 or 415, the body is too large, or the route does not take such a body.
    """
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"identity", b""):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body with a content encoding is not taken")
    if not _is_taken(headers.get(b"content-type", b"application/json"), binary=binary):
        what = f"{JSON} in UTF-8, or {OCTETS}," if binary else f"{JSON} in UTF-8,"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {what} and say so in Content-Type")
    length = headers.get(b"content-length", b"0")
    if len(length) > LENGTH_DIGITS or not length.isdigit() or int(length) > most:
        raise _too_large(most)


@lru_cache(64)
def _is_taken(content_type: bytes, *, binary: bool) -> bool:
    """Return whether a route accepts a content type; a ``binary`` route also accepts application/octet-stream."""
    kind, _, parameters = content_type.lower().partition(b";")
    if binary and kind.strip() == OCTETS.encode():
        return True
    given = parameters.replace(b" ", b"").replace(b'"', b"").split(b";")
    charsets = {parameter for parameter in given if parameter.startswith(b"charset=")}
    return kind.strip() == JSON.encode() and charsets <= {b"charset=utf-8"}


def _too_large(most: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is over the limit of {most} bytes")
