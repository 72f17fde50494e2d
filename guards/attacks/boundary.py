"""Boundary: a random walk along the decision boundary, from a row of another class towards the row."""

from collections import deque
from functools import partial
from typing import ClassVar

import numpy as np

from guards.attacks.query_attack import AttackedRow, Norm, Queries, Spacing
from guards.attacks.target import Floats
from guards.attacks.wrong_side import bisect, find_start, is_wrong

__all__ = ["Boundary"]

STEP = 0.01
"""The first length of both steps, as a share of the change's length."""
FACTOR = 1.5
LONGEST = 0.5
SIDEWAYS_KEPT, INWARDS_KEPT = (0.2, 0.5), (0.1, 0.25)
"""Between these shares of steps that succeed, steps keep their length."""
CHECKED = 10
"""Every so many steps the sideways step is asked alone."""


class Boundary:
    """A step sideways at the same distance and a step towards the row; both lengths follow how often steps succeed.

    Brendel, Rauber, Bethge 2018, "Decision-based adversarial attacks: reliable attacks against black-box machine
    learning models".
    """

    norm: ClassVar[Norm] = "rms"
    minimises: ClassVar[bool] = True
    widest: ClassVar[float] = 20.0

    def __call__(self, row: AttackedRow, eps: float, spacing: Spacing, rng: np.random.Generator) -> Queries:
        """Attack a row; the walk goes on until nobody asks for more."""
        del eps
        start = yield from find_start(row, rng)
        if start is None:
            return
        best = yield from bisect(start, row, self.norm, min(0.5, STEP * spacing.spread))
        walk = _Steps()
        while True:
            checks = walk.taken % CHECKED == 0
            draw = partial(_proposal, best, row, walk, rng, alone=checks)
            queries, answers = yield from spacing.draw(draw)
            wrong = is_wrong(answers, row.label)
            walk.note(bool(wrong[-1]), bool(wrong[0]) if checks else None)
            if wrong[-1] and np.linalg.norm(queries[-1]) < np.linalg.norm(best):
                best = queries[-1]


class _Steps:
    """The lengths of both steps, as shares of the change's length, and how often steps succeeded."""

    def __init__(self) -> None:
        self.sideways = self.inwards = STEP
        self.taken = 0
        self._sideways: deque[bool] = deque(maxlen=10)
        self._inwards: deque[bool] = deque(maxlen=30)

    def note(self, inwards: bool, sideways: bool | None) -> None:
        """Note which steps succeeded: success everywhere means that steps may be longer."""
        self.taken += 1
        self._inwards.append(inwards)
        if sideways is not None:
            self._sideways.append(sideways)
        both = _factor(self._sideways, SIDEWAYS_KEPT)
        self.sideways = min(LONGEST, self.sideways * both)
        self.inwards = min(LONGEST, self.inwards * both * _factor(self._inwards, INWARDS_KEPT))


def _factor(succeeded: deque[bool], kept: tuple[float, float]) -> float:
    """Give the factor for a step's length, once enough steps were taken at the present length."""
    if len(succeeded) < (succeeded.maxlen or 0):
        return 1.0
    share = sum(succeeded) / len(succeeded)
    if kept[0] <= share <= kept[1]:
        return 1.0
    succeeded.clear()
    return FACTOR if share > kept[1] else 1 / FACTOR


def _proposal(
    best: Floats, row: AttackedRow, steps: _Steps, rng: np.random.Generator, spread: float, *, alone: bool
) -> Floats:
    """Propose the next change (1, d); with ``alone`` the sideways step before it (2, d)."""
    length = float(np.linalg.norm(best))
    inwards, noise = best / max(length, 1e-12), rng.standard_normal(len(best))
    noise -= (noise @ inwards) * inwards
    across = min(1.0, steps.sideways * spread)
    noise *= across * length / max(float(np.linalg.norm(noise)), 1e-12)
    sideways = np.clip((best + noise) / np.sqrt(1 + across**2), row.low, row.high)
    reached = float(np.linalg.norm(sideways))
    shorter = max(0.0, min(reached, length) - min(LONGEST, steps.inwards * spread) * length)
    nearer = np.clip(sideways * shorter / max(reached, 1e-12), row.low, row.high)
    return np.stack([sideways, nearer]) if alone else nearer[None]
