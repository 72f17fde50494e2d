"""The other side of the decision boundary: where attacks by labels alone start, and how they come near the boundary."""

from collections.abc import Generator

import numpy as np

from guards.attacks.query_attack import AttackedRow, Norm
from guards.attacks.target import WITHHELD, Answers, Bools, Floats, Ints

__all__ = ["bisect", "find_start", "is_wrong", "towards"]

NOISES = 20
HALVINGS = 25


def is_wrong(answers: Answers, label: int | Ints) -> Bools:
    """Mark answers (n,) with a label that is not the true label; an answer without a label tells nothing."""
    wrong: Bools = (answers.labels != label) & (answers.labels != WITHHELD)
    return wrong


def find_start(row: AttackedRow, rng: np.random.Generator) -> Generator[Floats, Answers, Floats | None]:
    """Ask rows of other classes, then random rows, one at a time: the first change (d,) with a wrong label, or None."""
    for place in range(len(row.starts) + NOISES):
        change = row.starts[place] if place < len(row.starts) else rng.uniform(row.low, row.high)
        answers = yield change[None]
        if is_wrong(answers, row.label)[0]:
            return change
    return None


def towards(change: Floats, share: float, norm: Norm) -> Floats:
    """Shorten a change (d,) to a share of its length, along the line, or for linf by cutting each input's change."""
    if norm == "rms":
        return share * change
    most = share * np.abs(change).max(initial=0.0)
    return np.clip(change, -most, most)


def bisect(change: Floats, row: AttackedRow, norm: Norm, precision: float) -> Generator[Floats, Answers, Floats]:
    """Shorten a change (d,) by halving while the label stays wrong; ``precision`` is a share of the change's length."""
    near, far = 0.0, 1.0
    for _ in range(HALVINGS):
        if far - near <= precision:
            break
        middle = (near + far) / 2
        answers = yield towards(change, middle, norm)[None]
        if is_wrong(answers, row.label)[0]:
            far = middle
        else:
            near = middle
    return towards(change, far, norm)
