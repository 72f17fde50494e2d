"""What guards with memory remember: the last queries of each client, and of all clients, within bounds."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from guards.memory.base import MemoryGuard, Trace

__all__ = ["MOST_ENTRIES", "Crowd", "History", "LocalHistory"]

MOST_ENTRIES = 65536
"""How many queries all traces of a guard hold together, at most; the clients that were silent longest are forgotten."""
Codes = npt.NDArray[np.float32]


class History(Protocol):
    """Remembers the traces of a guard's clients."""

    @property
    def entries(self) -> int:
        """How many queries are remembered."""
        ...

    def read(self, clients: Sequence[str]) -> Mapping[str, Trace]:
        """Give the trace of each client; the trace of an unknown client is empty."""
        ...

    def write(self, client: str, codes: Codes, digests: Sequence[int], state: npt.NDArray[np.float64]) -> None:
        """Remember a client's next queries (m, w), in order, and the state after them."""
        ...


class LocalHistory:
    """Remembers in this process. Used by one thread."""

    def __init__(self, guard: MemoryGuard, most: int = MOST_ENTRIES) -> None:
        """Remember at most ``most`` queries of all clients together."""
        self._empty = Trace(np.empty((0, guard.width), np.float32), (), np.zeros(guard.state_size))
        self._window, self._most = guard.params.window, most
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._entries = 0

    @property
    def entries(self) -> int:
        """How many queries are remembered."""
        return self._entries

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


class Crowd:
    """The last queries of all clients of a process, so that an attack from several accounts is seen as one."""

    def __init__(self, guard: MemoryGuard) -> None:
        self._codes = np.zeros((guard.params.crowd, guard.width), np.float32)
        self._owners = np.zeros(guard.params.crowd, np.int64)
        self._next = self._held = 0

    def __len__(self) -> int:
        """Count the remembered queries."""
        return self._held

    def elsewhere(self, codes: Codes, clients: Sequence[str]) -> npt.NDArray[np.float64]:
        """Give the distance of each row (n, w) to the nearest query of another client, infinite if there is none.

        Those queries are the remembered ones, and the rows before it in the batch.
        """
        owners = np.array([_owner(client) for client in clients], np.int64)
        known = np.concatenate([self._codes[: self._held], codes])
        squares = (codes**2).sum(1)[:, None] + (known**2).sum(1) - 2 * codes @ known.T
        squares[owners[:, None] == np.concatenate([self._owners[: self._held], owners])] = np.inf
        later = np.triu(np.ones((len(codes), len(codes)), np.bool_))
        squares[:, self._held :][later] = np.inf
        nearest: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares.min(1), 0.0)).astype(np.float64)
        return nearest

    def add(self, codes: Codes, clients: Sequence[str]) -> None:
        """Remember queries (m, w); the oldest are forgotten."""
        size = len(self._codes)
        if not size:
            return
        codes, clients = codes[-size:], clients[-size:]
        at = (self._next + np.arange(len(codes))) % size
        self._codes[at], self._owners[at] = codes, [_owner(client) for client in clients]
        self._next = (self._next + len(codes)) % size
        self._held = min(size, self._held + len(codes))


def _owner(client: str) -> int:
    return hash(client)
