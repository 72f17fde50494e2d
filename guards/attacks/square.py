"""Square: random search, which changes one square of the row at a time, and keeps what lowers the margin."""

import math
from functools import partial
from typing import ClassVar

import numpy as np

from guards.attacks.query_attack import AttackedRow, Norm, Queries, Spacing, margins
from guards.attacks.target import Floats

__all__ = ["Square"]

SHARE = 0.3
"""The share of the inputs that a square covers at first."""
HALVED_AT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""The shares of the budget at which the squares' area is halved, as in the paper."""


class Square:
    """Squares of plus or minus eps on vertical stripes; in rows without neighbours, random sets of inputs.

    Andriushchenko, Croce, Flammarion, Hein 2020, "Square attack: a query-efficient black-box adversarial attack via
    random search".
    """

    norm: ClassVar[Norm] = "linf"
    minimises: ClassVar[bool] = False
    widest: ClassVar[float] = 8.0

    def __call__(self, row: AttackedRow, eps: float, spacing: Spacing, rng: np.random.Generator) -> Queries:
        """Attack a row within ``eps``."""
        best, answers = yield from spacing.draw(lambda _: _within(_stripes(row, eps, rng), row, eps))
        lowest = margins(answers, row.label)[0]
        asked = 1
        while True:
            share = SHARE / 2 ** sum(asked > row.budget * at for at in HALVED_AT)
            queries, answers = yield from spacing.draw(partial(_changed, best[0], row, eps, share, rng))
            margin = margins(answers, row.label)[0]
            asked += 1
            if margin <= lowest or math.isnan(lowest):
                best, lowest = queries, margin


def _stripes(row: AttackedRow, eps: float, rng: np.random.Generator) -> Floats:
    if row.shape is None:
        return eps * rng.choice((-1.0, 1.0), len(row.low))
    channels, height, width = row.shape
    stripes = rng.choice((-1.0, 1.0), (channels, 1, width))
    return eps * np.broadcast_to(stripes, (channels, height, width)).reshape(-1)


def _changed(
    best: Floats, row: AttackedRow, eps: float, share: float, rng: np.random.Generator, spread: float
) -> Floats:
    """Change one square of the best row so far: (1, d)."""
    share, changed = min(1.0, share * spread), best.copy()
    if row.shape is None:
        some = rng.permutation(len(best))[: max(1, round(share * len(best)))]
        changed[some] = eps * rng.choice((-1.0, 1.0), len(some))
    else:
        channels, height, width = row.shape
        side = max(1, round(math.sqrt(share * height * width)))
        tall, wide = min(side, height), min(side, width)
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        square = changed.reshape(row.shape)[:, top : top + tall, left : left + wide]
        square[:] = eps * rng.choice((-1.0, 1.0), (channels, 1, 1))
    return _within(changed, row, eps)


def _within(change: Floats, row: AttackedRow, eps: float) -> Floats:
    return np.clip(change, np.maximum(row.low, -eps), np.minimum(row.high, eps))[None]
