"""The target of an attack: a guarded model that answers rows, and what an attacker sees of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["WITHHELD", "Answers", "Bools", "Client", "Floats", "Ints", "Target"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
WITHHELD = -1
"""The label of a row whose answer has no label."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a target answers to n rows.

    ``labels`` (n,) are class indices, or :data:`WITHHELD`. ``probabilities`` (n, k) are NaN where no label is given.
    ``refused`` (n,) marks rows whose answer shows that a guard acted: the oracle of an adaptive attacker. ``flagged``
    (n,) marks rows that any guard flagged, and is read by the measurement alone, never by an attack.
    """

    labels: Ints
    probabilities: Floats
    refused: Bools
    flagged: Bools

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.labels)

    def __getitem__(self, rows: slice) -> "Answers":
        """Take some of the rows."""
        return Answers(self.labels[rows], self.probabilities[rows], self.refused[rows], self.flagged[rows])

    def reordered(self, order: npt.NDArray[np.intp]) -> "Answers":
        """Take the rows in another order (n,)."""
        return Answers(self.labels[order], self.probabilities[order], self.refused[order], self.flagged[order])

    @classmethod
    def join(cls, parts: "Sequence[Answers]") -> "Answers":
        """Concatenate answers, in order."""
        return cls(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.refused for part in parts]),
            np.concatenate([part.flagged for part in parts]),
        )


class Client(NamedTuple):
    """Who asks: one of the accounts of an attack on one row. Nobody else asks from this account."""

    attack: str
    account: int


class Target(Protocol):
    """Answers rows that clients ask. Answers may depend on what an attack asked before, but on no other attack."""

    shows_flags: bool
    """Whether an answer may show that a guard acted, so that an attacker can adapt to it."""

    def ask(self, x: npt.NDArray[np.float32], clients: Sequence[Client]) -> Answers:
        """Answer rows (n, ...), in order; ``clients`` (n,) say who asks each row.

        Raises:
            Mistake: the target does not answer.
        """
        ...

    def forget(self) -> None:
        """Forget all attacks so far: they do not ask again."""
        ...
