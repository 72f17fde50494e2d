"""NES: descends along a gradient that is estimated from the probabilities of random neighbours."""

from functools import partial
from typing import ClassVar

import numpy as np

from guards.attacks.query_attack import AttackedRow, Norm, Queries, Spacing, margins
from guards.attacks.target import Answers, Floats

__all__ = ["Nes"]

PAIRS = 25
SIGMA = 0.05
"""How far neighbours lie, as a share of eps."""
STEP = 0.2
"""The length of a step, as a share of eps."""
MOMENTUM = 0.5


class Nes:
    """Signed steps along the estimated gradient of the margin, from antithetic pairs of Gaussian neighbours.

    Ilyas, Engstrom, Athalye, Lin 2018, "Black-box adversarial attacks with limited queries and information".
    """

    norm: ClassVar[Norm] = "linf"
    minimises: ClassVar[bool] = False
    widest: ClassVar[float] = 1 / SIGMA

    def __call__(self, row: AttackedRow, eps: float, spacing: Spacing, rng: np.random.Generator) -> Queries:
        """Attack a row within ``eps``: each step asks where the step stands, and fifty neighbours."""
        low, high = np.maximum(row.low, -eps), np.minimum(row.high, eps)
        at, direction = np.zeros_like(row.low), np.zeros_like(row.low)
        while True:
            queries, answers = yield from spacing.draw(partial(_neighbours, at, row, eps, rng))
            gradient = _gradient(queries, answers, row.label)
            largest = np.abs(gradient).max(initial=0.0)
            direction = MOMENTUM * direction + (gradient / largest if largest else 0.0)
            step = min(1.0, STEP * spacing.spread) * eps
            at = np.clip(at - step * np.sign(direction), low, high)


def _neighbours(at: Floats, row: AttackedRow, eps: float, rng: np.random.Generator, spread: float) -> Floats:
    noise = rng.standard_normal((PAIRS, len(at))) * (SIGMA * eps * spread)
    drawn: Floats = np.clip(np.concatenate([at[None], at + noise, at - noise]), row.low, row.high)
    return drawn


def _gradient(queries: Floats, answers: Answers, label: int) -> Floats:
    """Estimate the gradient of the margin (d,); a pair without both probabilities tells nothing."""
    margin = margins(answers, label)
    slope = np.nan_to_num(margin[1 : 1 + PAIRS] - margin[1 + PAIRS :])
    gradient: Floats = slope @ (queries[1 : 1 + PAIRS] - queries[1 + PAIRS :]) / PAIRS
    return gradient
