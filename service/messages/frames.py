"""Frames: the messages that two processes of this server send each other over a socket or a pipe.

A frame is the length of a JSON head (4 bytes, big-endian), the head, and a body of as many bytes as the head's
``size`` says. No frame holds a pickle, so neither process can make the other process run code.
"""

import asyncio
import struct
from collections.abc import Mapping
from typing import IO, Any

import orjson

__all__ = ["LARGEST", "Frame", "pack", "read", "read_async"]

Frame = tuple[dict[str, Any], bytes]
LENGTH = struct.Struct(">I")
LARGEST = 1 << 28
"""The most bytes of a head or of a body. A longer length means that the bytes are not a frame."""


def pack(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Write a frame; ``size`` is added to the head."""
    encoded = orjson.dumps({**head, "size": len(body)})
    return b"".join((LENGTH.pack(len(encoded)), encoded, body))


def read(stream: IO[bytes]) -> Frame | None:
    """Read a frame from a pipe; None if the other end was closed.

    Raises:
        ValueError: these bytes are no frame.
    """
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    head = _head(stream.read(_checked(*LENGTH.unpack(length))))
    return head, stream.read(_checked(head["size"]))


async def read_async(stream: asyncio.StreamReader) -> Frame:
    """Read a frame from a stream.

    Raises:
        asyncio.IncompleteReadError: the other end was closed.
        ValueError: these bytes are no frame.
    """
    (length,) = LENGTH.unpack(await stream.readexactly(LENGTH.size))
    head = _head(await stream.readexactly(_checked(length)))
    return head, await stream.readexactly(_checked(head["size"]))


def _head(encoded: bytes) -> dict[str, Any]:
    head = orjson.loads(encoded)
    if not isinstance(head, dict) or not isinstance(head.get("size"), int):
        raise TypeError("the head of a frame is an object with a size")
    return head


def _checked(size: int) -> int:
    if not 0 <= size <= LARGEST:
        raise ValueError(f"a frame of {size} bytes")
    return size
