"""Chooses the rows to attack: rows of a file that the guarded model classifies rightly."""

from dataclasses import dataclass

import numpy as np

from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.space import Rows
from guards.attacks.target import Ints
from guards.input.schema import InputSchema
from guards.types import Mistake
from guards.types import Rows as FileRows

__all__ = ["ChosenRows", "choose"]

TRIED = 20
"""So many rows of the file are asked for each row that is wanted."""
STARTS = 5
"""How many rows of other classes an attack may start from."""


@dataclass(frozen=True, slots=True, eq=False)
class ChosenRows:
    """Rows ``x`` (n, ...) with the labels ``y`` (n,), and for each row some rows ``starts`` (s, ...) of other classes.

    ``tried`` rows of the file were asked, and ``right`` of them were classified rightly. ``others`` (m, ...) are the
    rows among them that are not attacked, or all of them if nearly all are attacked.
    """

    x: Rows
    y: Ints
    starts: tuple[Rows, ...]
    others: Rows
    tried: int
    right: int


def choose(rows: FileRows, schema: InputSchema, target: PipelineTarget, *, count: int, seed: int) -> ChosenRows:
    """Draw ``count`` rows, or as many as there are, that the target gives their true label.

    Rows with a category that the model does not know are left out: an attack changes no category.

    Raises:
        Mistake: no row fits.
    """
    assert rows.y is not None  # noqa: S101 - the caller has checked the file for labels
    rng = np.random.default_rng([seed, len(rows)])
    order = rng.permutation(len(rows))[: TRIED * count]
    x, y = rows.x.numpy()[order], rows.y.numpy()[order]
    if schema.kind == "tabular":
        known = ~(x[:, schema.categorical.numpy()] < 0).any(1)
        x, y = x[known], y[known]
    if len(x):
        right = target.alone(x).labels == y
        x, y = x[right], y[right]
    if not len(x):
        raise Mistake(
            "--data: the guarded model gives none of the rows its true label, so that nothing can be attacked"
        )
    starts = []
    for label in y[:count]:
        wrong = np.flatnonzero(y != label)
        starts.append(x[rng.permutation(wrong)[:STARTS]])
    others = x[count:] if len(x) >= count + STARTS else x
    return ChosenRows(x[:count], y[:count], tuple(starts), others, len(order), len(x))
