"""Answers that may be asked for again: bounded in bytes, the one least recently used goes first."""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

__all__ = ["Recent"]


class Sized(Protocol):
    """What knows its own size in bytes."""

    @property
    def nbytes(self) -> int:
        """The size."""


T = TypeVar("T", bound=Sized)
ENTRY_BYTES = 512
"""What an entry costs beside its content."""


class Recent(Generic[T]):
    """A cache by key."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes = most_bytes, 0
        self._entries: OrderedDict[bytes, T] = OrderedDict()

    def get(self, key: bytes) -> T | None:
        """Give what was put, if it is still there."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: bytes, value: T) -> None:
        """Keep a value, and let others go for it; one larger than everything is not kept."""
        size = value.nbytes + ENTRY_BYTES
        if size > self._most:
            return
        old = self._entries.pop(key, None)
        self._bytes += size - (0 if old is None else old.nbytes + ENTRY_BYTES)
        self._entries[key] = value
        while self._bytes > self._most:
            _, gone = self._entries.popitem(last=False)
            self._bytes -= gone.nbytes + ENTRY_BYTES
