"""Made-up targets of attacks: a plane that divides the rows, and a memory of each client's queries."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.attacks.space import Space
from guards.attacks.target import WITHHELD, Answers, Client

SIZE = 12


class PlaneTarget:
    """Gives the label 1 above a plane through the middle of the cube, with honest probabilities.

    A query nearer than ``near`` to an earlier query of its client, in the largest change, is flagged. With
    ``shows_flags`` the answer shows the flag, and with ``withholds`` it has no label.
    """

    def __init__(self, *, near: float = 0.0, shows_flags: bool = True, withholds: bool = False) -> None:
        self.shows_flags, self._near, self._withholds = shows_flags, near, withholds
        self.normal = np.random.default_rng(5).standard_normal(SIZE)
        self.seen: dict[Client, list[npt.NDArray[Any]]] = {}
        self.asked = 0

    def ask(self, x: npt.NDArray[np.float32], clients: Sequence[Client]) -> Answers:
        """Answer rows (n, 12)."""
        self.asked += len(x)
        height = (x.astype(np.float64) - 0.5) @ self.normal
        above = 1 / (1 + np.exp(-4 * height))
        flagged = np.array([self._flagged(row, client) for row, client in zip(x, clients, strict=True)], dtype=np.bool_)
        refused = flagged & self.shows_flags
        labels = np.where(refused & self._withholds, WITHHELD, (height > 0).astype(np.int64))
        probabilities = np.stack([1 - above, above], axis=1)
        probabilities[refused & self._withholds] = np.nan
        return Answers(labels, probabilities, refused, flagged)

    def forget(self) -> None:
        """Forget all queries."""
        self.seen.clear()

    def _flagged(self, row: npt.NDArray[Any], client: Client) -> bool:
        earlier = self.seen.setdefault(client, [])
        near = any(np.abs(row - other).max() < self._near for other in earlier)
        earlier.append(row)
        return near


def plane_space() -> Space:
    """Give the unit cube as a space without neighbours."""
    return Space((SIZE,), np.ones(SIZE), np.zeros(SIZE), np.ones(SIZE), image=False)


def plane_rows(target: PlaneTarget, count: int = 6) -> tuple[npt.NDArray[np.float32], list[int], list[Any]]:
    """Give rows below the plane, their labels, and rows above the plane from which to start."""
    x = np.random.default_rng(1).uniform(0.2, 0.8, (200, SIZE)).astype(np.float32)
    labels = target.ask(x, [Client("choice", place) for place in range(len(x))]).labels
    target.asked = 0
    target.forget()
    return x[labels == 0][:count], [0] * count, [x[labels == 1][:3]] * count
