"""What guards with memory remember: the last queries of each client, within bounds."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from guards.memory.base import MemoryGuard, Trace
from guards.memory.crowd import Crowd, Queries

__all__ = ["MOST_ENTRIES", "History", "LocalHistory"]

MOST_ENTRIES = 65536
"""How many queries all traces of a guard hold together, at most; the clients that were silent longest are forgotten."""
Codes = npt.NDArray[np.float32]


class History(Protocol):
    """Remembers the traces of a guard's clients."""

    @property
    def entries(self) -> int:
        """How many queries are remembered."""
        ...

    @property
    def crowd(self) -> Crowd:
        """The last queries of all clients, as they were at the last ``read``; empty if the guard compares none."""
        ...

    def read(self, clients: Sequence[str]) -> Mapping[str, Trace]:
        """Give the trace of each client; the trace of an unknown client is empty."""
        ...

    def write(self, client: str, codes: Codes, digests: Sequence[int], state: npt.NDArray[np.float64]) -> None:
        """Remember a client's next queries (m, w), in order, and the state after them."""
        ...

    def write_crowd(self, queries: Queries) -> None:
        """Remember queries of all clients, in order."""
        ...


class LocalHistory:
    """Remembers in this process. Used by one thread."""

    def __init__(self, guard: MemoryGuard, most: int = MOST_ENTRIES) -> None:
        """Remember at most ``most`` queries of all clients together."""
        self._empty = Trace(np.empty((0, guard.width), np.float32), (), np.zeros(guard.state_size))
        self._window, self._most = guard.params.window, most
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._entries = 0
        self.crowd = Crowd(guard.width, guard.crowd_size)

    @property
    def entries(self) -> int:
        """How many queries are remembered."""
        return self._entries + len(self.crowd)

    def read(self, clients: Sequence[str]) -> Mapping[str, Trace]:
        """Give the trace of each client; the trace of an unknown client is empty."""
        return {client: self._traces.get(client, self._empty) for client in clients}

    def write(self, client: str, codes: Codes, digests: Sequence[int], state: npt.NDArray[np.float64]) -> None:
        """Remember a client's next queries (m, w), in order, and the state after them."""
        before = self._traces.pop(client, self._empty)
        together = np.concatenate([before.codes, codes])[-self._window :]
        self._traces[client] = Trace(together, (*before.digests, *digests)[-self._window :], state)
        self._entries += len(together) - len(before.codes)
        while self._entries > self._most:
            _, oldest = self._traces.popitem(last=False)
            self._entries -= len(oldest.codes)

    def write_crowd(self, queries: Queries) -> None:
        """Remember queries of all clients, in order."""
        self.crowd.add(queries)
