"""Finds out whether the outputs of a classification fit its labels in another order than ``model.classes`` has."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment

from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.quality import Quality, quality, shuffled

__all__ = ["better_order", "knows_each"]

FEWEST, MOST_CLASSES = 40, 1000
GAIN = 0.05
FEWEST_OF_EACH = 10
STAY = 1e-3
"""A small preference for the given label, so that an output which no row chose keeps its label."""


def better_order(rows: Labelled, classes: tuple[str, ...]) -> tuple[tuple[str, ...], Quality, Quality] | None:
    """Find the order of the labels under which the outputs are right far more often; None if there is no such order.

    The best one-to-one assignment of outputs to labels is chosen on half of the rows, and judged on the other half. The
    result is the labels in that order, and the quality on the other half in that order and in the given order. A model
    that only predicts the majority class fits no order. More than a thousand classes are not tried: each class would
    have too few rows.
    """
    assert rows.y is not None  # noqa: S101 - the caller has labels
    if len(rows.y) < FEWEST or not 1 < len(classes) <= MOST_CLASSES:
        return None
    rows = shuffled(rows)
    assert rows.y is not None  # noqa: S101 - as before
    predicted, y = rows.logits.argmax(1).cpu(), rows.y.cpu()
    confusion = np.zeros((len(classes), len(classes)))
    np.add.at(confusion, (predicted[::2].numpy(), y[::2].numpy()), 1)
    label_of: npt.NDArray[np.int64] = linear_sum_assignment(-(confusion + STAY * np.eye(len(classes))))[1]
    if (label_of == np.arange(len(classes))).all():
        return None
    given = quality(Labelled(rows.logits[1::2], rows.y[1::2]), classes)
    moved = torch.empty_like(rows.logits[1::2])
    moved[:, torch.from_numpy(label_of).to(moved.device)] = rows.logits[1::2]
    ordered = quality(replace(rows, logits=moved, y=rows.y[1::2]), classes)
    assert given is not None  # noqa: S101 - there are labels
    assert ordered is not None  # noqa: S101
    if not ordered.far_above(given, by=GAIN):
        return None
    return tuple(classes[index] for index in label_of), ordered, given


def knows_each(rows: Labelled, classes: tuple[str, ...]) -> bool:
    """Tell whether the output of each class is chosen for most of its rows, so that no other order of labels fits."""
    assert rows.y is not None  # noqa: S101 - the caller has labels
    y = rows.y.long().cpu()
    counts = torch.bincount(y, minlength=len(classes))
    hits = torch.bincount(y[rows.logits.argmax(1).cpu() == y], minlength=len(classes))
    return bool((counts >= FEWEST_OF_EACH).all()) and bool((2 * hits > counts).all())
