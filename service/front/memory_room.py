"""How much memory a front lends to requests at one time: for bodies that arrive, and for JSON that is being read.

Without a bound over all connections, many bodies that are each within their own limit end the process.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.messages.refused import Refused

__all__ = ["BODIES", "TREES", "Room", "tree_bytes"]

SMALL_BODY = 65_536
"""Bodies up to this size are not counted: the number of connections bounds them."""
SMALL_TREE = 1 << 20
BODY_BYTES, TREE_BYTES = 1 << 28, 3 << 27
OBJECT, ARRAY, VALUE = 256, 96, 96
"""Bytes of memory that an object, an array and a value of parsed JSON take at most, without the text of strings."""
FULL = "the server holds as many bytes of unfinished requests as it may; send the request again in a moment"


class Room:
    """So many bytes at one time. A request that needs more than there are gets its bytes if it is alone."""

    def __init__(self, size: int, *, free_below: int) -> None:
        """Lend ``size`` bytes; amounts up to ``free_below`` are not counted."""
        self._size, self._free_below = size, free_below
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
            if wanted > held and others and others + wanted > self._size:
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
    """Bound the memory that a JSON text takes when it is parsed, by three counts of its characters."""
    if len(text) * OBJECT <= SMALL_TREE:
        return 0
    return OBJECT * text.count(b"{") + ARRAY * text.count(b"[") + VALUE * text.count(b",") + len(text)


BODIES = Room(BODY_BYTES, free_below=SMALL_BODY)
TREES = Room(TREE_BYTES, free_below=SMALL_TREE)
