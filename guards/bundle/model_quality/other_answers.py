"""Finds out whether the least output, or a bound of 0.5, gives answers that fit the labels far better."""

from collections.abc import Iterator

import torch
from torch import Tensor

from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.quality import Quality, quality, shuffled

__all__ = ["better_answer"]

FEWEST, GAIN = 40, 0.05
HALF = 0.5
LEAST = (
    "the least output marks the right class, as of distances, and the gateway answers with the largest: return -output "
    "in forward"
)
BOUND = (
    "the output fits labels of 0 and 1 with 0.5 as the bound, and the gateway takes one output for a logit, whose "
    "bound is 0: return output - 0.5 in forward, or set model.output to probabilities if it lies in [0, 1]"
)


def better_answer(rows: Labelled, classes: tuple[str, ...], *, one_logit: bool) -> tuple[str, Quality, Quality] | None:
    """Find another way to an answer that is right far more often; None if there is none.

    Distances and energies are small for the right class. A single output that was trained on 0 and 1 by a squared error
    must be compared with 0.5, and not with 0. For two classes the least output is not tried: it means the labels in the
    other order, which :mod:`guards.bundle.model_quality.label_order` finds. The result is the advice, and the quality
    with the advice and without.
    """
    assert rows.y is not None  # noqa: S101 - the caller has labels
    if len(rows.y) < FEWEST:
        return None
    rows = shuffled(rows)
    given = quality(rows, classes)
    assert given is not None  # noqa: S101 - there are labels
    for logits, advice in _others(rows, one_logit=one_logit):
        found = quality(Labelled(logits, rows.y), classes)
        if found is not None and found.far_above(given, by=GAIN):
            return advice, found, given
    return None


def _others(rows: Labelled, *, one_logit: bool) -> Iterator[tuple[Tensor, str]]:
    assert rows.y is not None  # noqa: S101 - the caller has labels
    if rows.logits.shape[1] > 2:  # noqa: PLR2004
        yield -rows.logits, LEAST
    value = rows.logits[:, 1].double()
    if one_logit and _near_labels(value, rows.y.to(value)):
        yield torch.stack([torch.full_like(value, HALF), value], dim=1), BOUND


def _near_labels(value: Tensor, y: Tensor) -> bool:
    """Tell whether values lie nearer to the labels 0 and 1 than the mean of the labels does; logits seldom do."""
    return bool(((value - y) ** 2).mean() < ((y - y.mean()) ** 2).mean())
