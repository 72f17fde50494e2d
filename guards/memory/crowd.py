"""The last queries of all clients together, by which an attack shows that is spread over many accounts."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Crowd", "Queries", "owner"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Some queries of all clients, oldest first: ``codes`` (n, w) float32, ``digests``, and who asked each.

    ``owners`` (n,) are hashes of the clients' names. ``evidence`` (n,) float64 says how much each query, with the
    queries of other clients before it, looks like one attack.
    """

    codes: npt.NDArray[np.float32]
    digests: Sequence[int]
    owners: npt.NDArray[np.uint64]
    evidence: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """How many queries there are."""
        return len(self.digests)


class Crowd:
    """The last ``size`` different queries of all clients. A row that is asked again in the same bytes is held once.

    ``points`` (size, w) are the queries' codes without the sparseness, and the squares of their lengths in the last
    column, which is infinite where no query is held.
    """

    def __init__(self, width: int, size: int) -> None:
        """Begin without queries."""
        self.points = np.zeros((size, width), np.float32)
        self.points[:, -1] = np.inf
        self.owners = np.zeros(size, np.uint64)
        self.evidence = np.zeros(size)
        self.times = np.zeros(size, np.int64)
        self._places: dict[int, int] = {}
        self._digests: list[int | None] = [None] * size
        self._asked = 0

    def __len__(self) -> int:
        """How many queries are held."""
        return len(self._places)

    def place(self, digest: int) -> int | None:
        """Say where a query is held whose row has this digest; None if it is not held."""
        return self._places.get(digest)

    def add(self, queries: Queries) -> None:
        """Hold these queries, and forget as many of the oldest as are too many."""
        for row, digest in enumerate(queries.digests):
            if digest in self._places:
                continue
            place = self._asked % len(self.points)
            if (forgotten := self._digests[place]) is not None:
                del self._places[forgotten]
            point = queries.codes[row, :-1]
            self._places[digest], self._digests[place] = place, digest
            self.points[place, :-1], self.points[place, -1] = point, point @ point
            self.owners[place], self.evidence[place] = queries.owners[row], queries.evidence[row]
            self.times[place] = self._asked
            self._asked += 1


def owner(client: str) -> int:
    """Give the hash of a client's name."""
    return int.from_bytes(blake2b(client.encode(), digest_size=8).digest(), "little")
