"""Finds rows whose label is probably wrong, by confident learning."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LabelErrors", "SuspectLabel", "label_errors"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SuspectLabel:
    """A row, by its place, with the index of its label and of the class that it probably is.

    ``probability`` is the model's for the label, and ``likelier`` the model's for the other class.
    """

    row: int
    label: int
    other: int
    probability: float
    likelier: float


@dataclass(frozen=True, slots=True)
class LabelErrors:
    """The rows whose label is probably wrong, the most certain first, and the ``expected`` number of wrong labels."""

    suspects: tuple[SuspectLabel, ...]
    expected: float


def label_errors(probabilities: Floats, y: Integers) -> LabelErrors:
    """Compare labels ``y`` (n,) with probabilities (n, k) of a model that was not trained on these rows.

    A row counts as class j if its probability of j is at least the mean probability of j among the rows labelled j, and
    if j is the most probable of such classes. The counts of (label, class), scaled to the number of rows with each
    label, estimate how many labels are wrong. A row is a suspect if its class is not its label. The suspects are
    ordered by the margin between the two probabilities.

    Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels".
    """
    n, k = probabilities.shape
    labelled = np.bincount(y, minlength=k)
    own = probabilities[np.arange(n), y]
    bar = np.where(labelled > 0, np.bincount(y, weights=own, minlength=k) / np.maximum(labelled, 1), np.inf)
    confident = probabilities >= bar
    place = np.where(confident, probabilities, -1.0).argmax(1)
    counted = confident.any(1)
    joint = np.zeros((k, k))
    np.add.at(joint, (y[counted], place[counted]), 1)
    rows = joint.sum(1)
    scaled = joint * np.where(rows > 0, labelled / np.maximum(rows, 1), 0)[:, None]
    suspects = np.flatnonzero(counted & (place != y))
    likelier = probabilities[suspects, place[suspects]]
    order = np.argsort(own[suspects] - likelier, kind="stable")
    found = tuple(
        SuspectLabel(int(row), int(y[row]), int(place[row]), float(own[row]), float(probabilities[row, place[row]]))
        for row in suspects[order]
    )
    return LabelErrors(found, float(scaled.sum() - np.trace(scaled)))
