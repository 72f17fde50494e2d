"""A cache of answers with a limit in bytes. If the cache is full, the least recently used answer is dropped first."""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

__all__ = ["Recent"]


class Sized(Protocol):
    """A value that knows its own size."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""


T = TypeVar("T", bound=Sized)
ENTRY_BYTES = 512
"""How many bytes an entry takes in addition to its value."""


class Recent(Generic[T]):
    """A cache from keys to values that drops the least recently used values first."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes = most_bytes, 0
        self._entries: OrderedDict[bytes, T] = OrderedDict()

    def get(self, key: bytes) -> T | None:
        """Return the value of a key; None if the cache does not hold it."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: bytes, value: T) -> None:
        """Keep a value, and drop older values until it fits. A value larger than the whole cache is not kept."""
        size = value.nbytes + ENTRY_BYTES
        if size > self._most:
            return
        old = self._entries.pop(key, None)
        self._bytes += size - (0 if old is None else old.nbytes + ENTRY_BYTES)
        self._entries[key] = value
        while self._bytes > self._most:
            _, gone = self._entries.popitem(last=False)
            self._bytes -= gone.nbytes + ENTRY_BYTES
