"""HopSkipJump: estimates the boundary's direction from labels alone, jumps along it, and comes back by halving."""

import math
from functools import partial
from typing import ClassVar

import numpy as np

from guards.attacks.query_attack import AttackedRow, Norm, Queries, Spacing, lengths
from guards.attacks.target import Answers, Floats
from guards.attacks.wrong_side import bisect, find_start, is_wrong

__all__ = ["HopSkipJump"]

SAMPLES = 100
"""How many neighbours the first step asks; step t asks sqrt(t) times as many."""
SHORTEST = 1e-3
"""A jump that is shorter, as a share of the change's length, is given up."""


class HopSkipJump:
    """Jumps along the estimated normal of the boundary, each half as long as the last until the label stays wrong.

    Chen, Jordan, Wainwright 2020, "HopSkipJumpAttack: a query-efficient decision-based attack", for the largest change.
    Halving is as precise as 1 / d^2 of the change, and neighbours are d times as far, as in the paper; but halving ends
    at a thousandth of the change, and neighbours are at least a hundredth away.
    """

    norm: ClassVar[Norm] = "linf"
    minimises: ClassVar[bool] = True
    widest: ClassVar[float] = 20.0

    def __call__(self, row: AttackedRow, eps: float, spacing: Spacing, rng: np.random.Generator) -> Queries:
        """Attack a row; steps go on until nobody asks for more."""
        del eps
        start = yield from find_start(row, rng)
        if start is None:
            return
        d = len(row.low)
        precision = min(0.01, max(0.001, d**-2.0))
        best = yield from bisect(start, row, self.norm, min(0.5, precision * spacing.spread))
        step = 0
        while True:
            step += 1
            reach = max(float(lengths(best[None], self.norm)[0]), 1e-9)
            delta = max(1 / d, 0.01) * reach if step > 1 else 0.1 * reach
            draw = partial(_neighbours, best, row, delta, round(SAMPLES * math.sqrt(step)), rng)
            queries, answers = yield from spacing.draw(draw)
            direction = np.sign(_direction(best, queries, answers, row.label))
            jump = reach / math.sqrt(step)
            landed = None
            while jump > SHORTEST * reach and landed is None:
                there = np.clip(best + jump * direction, row.low, row.high)
                answers = yield there[None]
                landed = there if is_wrong(answers, row.label)[0] else None
                jump /= 2
            if landed is not None:
                found = yield from bisect(landed, row, self.norm, min(0.5, precision * spacing.spread))
                if lengths(found[None], self.norm)[0] <= reach:
                    best = found


def _neighbours(
    best: Floats, row: AttackedRow, delta: float, count: int, rng: np.random.Generator, spread: float
) -> Floats:
    """Draw neighbours (count, d) at a distance of ``delta`` in the largest change."""
    noise = rng.uniform(-1, 1, (count, len(best)))
    return np.clip(best + delta * spread * noise, row.low, row.high)


def _direction(best: Floats, queries: Floats, answers: Answers, label: int) -> Floats:
    """Estimate the direction (d,) into the wrong side; answers without a label count as the true label."""
    signs = np.where(is_wrong(answers, label), 1.0, -1.0)
    noise = queries - best
    mean = signs.mean()
    direction: Floats = mean * noise.mean(0) if abs(mean) == 1 else (signs - mean) @ noise / len(noise)
    return direction
