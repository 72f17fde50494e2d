"""What all attacks by queries have in common: the row that is attacked, and how an attack asks."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from guards.attacks.target import Answers, Floats

__all__ = ["FLAT", "AttackedRow", "Norm", "Queries", "QueryAttack", "Spacing", "lengths", "margins"]

Norm = Literal["linf", "rms"]
"""linf: the largest change of an input; rms: the root mean square of the changes of all inputs."""
Queries = Generator[Floats, Answers, None]
FLAT = 1e-30
"""Smaller probabilities count as this one, so that logarithms are finite."""
WIDER, NARROWER = 1.5, 0.98
TOLERATED = 0.1
"""The share of refused queries at which an adaptive attacker draws them again, farther apart."""
TRIES = 4
TENTH = 10


@dataclass(frozen=True, slots=True, eq=False)
class AttackedRow:
    """One row, as an attack sees it: the changes of its d inputs, in the units of eps; no change is the row itself.

    Changes must stay between ``low`` and ``high`` (d,), which hold zero. ``shape`` are the sizes of an image (channels,
    height, width), None for rows without neighbours. ``starts`` (s, d) are changes towards rows of other classes.
    ``label`` is the true label, and ``budget`` the number of queries that the attacker has.
    """

    label: int
    low: Floats
    high: Floats
    shape: tuple[int, int, int] | None
    starts: Floats
    budget: int


@dataclass(slots=True)
class Spacing:
    """How far apart an attack draws its queries: ``spread`` times as far as the plain attack does.

    An adaptive attacker follows OARS (Feng et al. 2023, "Stateful defenses for machine learning models are not yet
    secure against black-box attacks"): refused queries are drawn again, farther apart, and the distance shrinks slowly
    while nothing is refused, because near queries tell more. If the target does not show what its guards flag, there is
    no such oracle: the attacker then keeps the widest distance of the same schedule from the first query on.
    """

    adaptive: bool = False
    oracle: bool = True
    widest: float = 1.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        if self.adaptive and not self.oracle:
            self.spread = self.widest

    def draw(self, make: Callable[[float], Floats]) -> Generator[Floats, Answers, tuple[Floats, Answers]]:
        """Ask the queries (m, d) that ``make`` draws at a spread; return the last queries and their answers.

        The plain attack asks once. The adaptive attack asks a tenth first; if too many of these are refused, it draws
        all queries again.
        """
        if not (self.adaptive and self.oracle):
            queries = make(self.spread)
            return queries, (yield queries)
        for _ in range(TRIES):
            queries = make(self.spread)
            answers = yield queries[: -(-len(queries) // TENTH)]
            if not self._widened(answers):
                break
        else:
            self.spread = 1.0  # distance is not what the guard minds
        if len(answers) < len(queries):
            answers = Answers.join([answers, (yield queries[len(answers) :])])
            self._widened(answers)
        self.spread = max(1.0, self.spread * NARROWER)
        return queries, answers

    def _widened(self, answers: Answers) -> bool:
        refused = bool(answers.refused.mean() > TOLERATED)
        if refused:
            self.spread = min(self.widest, self.spread * WIDER)
        return refused


class QueryAttack(Protocol):
    """An attack that needs queries alone. It yields changes (m, d), and is sent their answers; it may return early."""

    norm: ClassVar[Norm]
    minimises: ClassVar[bool]
    """Whether one attack looks for the smallest change, so that it serves every eps."""
    widest: ClassVar[float]
    """The widest spread at which the attack still makes progress."""

    def __call__(self, row: AttackedRow, eps: float, spacing: Spacing, rng: np.random.Generator) -> Queries:
        """Attack a row within ``eps``."""
        ...


def lengths(changes: Floats, norm: Norm) -> Floats:
    """Measure changes (m, d): (m,).

    >>> lengths(np.array([[3.0, 4.0]]), "linf"), lengths(np.array([[3.0, 4.0]]), "rms") * math.sqrt(2)
    (array([4.]), array([5.]))
    """
    found: Floats = np.abs(changes).max(1, initial=0.0)
    if norm == "rms":
        found = np.linalg.norm(changes, axis=1) / math.sqrt(max(1, changes.shape[1]))
    return found


def margins(answers: Answers, label: int) -> Floats:
    """Give the log odds of the true label against the most likely other label (n,); NaN if no label is given."""
    logs = np.log(np.maximum(answers.probabilities, FLAT))
    found: Floats = logs[:, label] - np.delete(logs, label, axis=1).max(1)
    return found
