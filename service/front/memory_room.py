"""How much memory a front lends to requests at one time: for bodies, for JSON that is being read, for unpacked images.

Without a bound over all connections, many bodies that are each within their own limit end the process.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.messages.refused import Refused

__all__ = ["BODIES", "PIXELS", "RECEIVING_PLACES", "TREES", "Room", "furnish", "tree_bytes"]

SMALL_BODY = 65_536
"""Bodies up to this size are not counted: the number of connections bounds them."""
SMALL_TREE = 1 << 20
BODIES_AT_ONCE, TREES_AT_ONCE = 16, 24
"""How many times the largest body all bodies, and all trees of parsed JSON, may take. A body of numbers alone takes 20
times its size at most."""
RECEIVING_PLACES = 6
"""How many of the largest bodies are set aside for the messages that gRPC is receiving, if the server has gRPC."""
LARGEST_BODY = 16 << 20
OBJECT, ARRAY, VALUE, QUOTE = 256, 96, 40, 48
"""Bytes of memory that an object, an array, a number and half of a string take at most, without the string's text."""
FULL = "the server holds as many bytes of unfinished requests as it may; send the request again in a moment"


class Room:
    """So many bytes at one time. A request that needs more than there are gets its bytes if it is alone."""

    def __init__(self, size: int, *, free_below: int) -> None:
        """Lend ``size`` bytes; amounts up to ``free_below`` are not counted."""
        self.size, self._free_below = size, free_below
        self._lent, self._lock = 0, threading.Lock()

    @property
    def lent(self) -> int:
        """The bytes that are lent now."""
        return self._lent

    def grow(self, held: int, wanted: int) -> int:
        """Let a request that holds ``held`` bytes hold ``wanted`` bytes; return what the request holds now.

        Raises:
            Refused: there is not so much room.
        """
        wanted = 0 if wanted <= self._free_below else wanted
        with self._lock:
            others = self._lent - held
            if wanted > held and others and others + wanted > self.size:
                raise Refused("memory", FULL)
            self._lent = others + wanted
        return wanted

    @contextmanager
    def held(self, amount: int) -> Iterator[None]:
        """Hold bytes for the duration of a block.

        Raises:
            Refused: there is not so much room.
        """
        held = self.grow(0, amount)
        try:
            yield
        finally:
            self.grow(held, 0)


def tree_bytes(text: bytes) -> int:
    """Bound the memory that a JSON text takes when it is parsed, by counts of its characters."""
    if len(text) * OBJECT <= SMALL_TREE:
        return 0
    parts = OBJECT * text.count(b"{") + ARRAY * text.count(b"[") + VALUE * text.count(b",") + QUOTE * text.count(b'"')
    return parts + len(text)


BODIES = Room(BODIES_AT_ONCE * LARGEST_BODY, free_below=SMALL_BODY)
TREES = Room(TREES_AT_ONCE * LARGEST_BODY, free_below=SMALL_TREE)
PIXELS = Room(TREES_AT_ONCE * LARGEST_BODY, free_below=SMALL_TREE)


def furnish(max_body_bytes: int, *, grpc: bool) -> None:
    """Choose the size of all rooms of this process by the largest body that is taken; ``grpc`` if it serves gRPC."""
    BODIES.size = (BODIES_AT_ONCE - (RECEIVING_PLACES if grpc else 0)) * max_body_bytes
    TREES.size = PIXELS.size = TREES_AT_ONCE * max_body_bytes
