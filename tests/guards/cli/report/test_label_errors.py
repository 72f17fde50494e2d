"""Confident learning."""

import numpy as np
import pytest

from guards.cli.report.measures.label_errors import label_errors


def test_joint_worked_out_by_hand() -> None:
    """The bars are 0.6 and 0.5167; rows 2 and 5 clear the bar of the other class, and the wider margin comes first."""
    p0 = np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.95])
    found = label_errors(np.stack([p0, 1 - p0], axis=1), np.array([0, 0, 0, 1, 1, 1]))
    assert [(each.row, each.label, each.other) for each in found.suspects] == [(5, 1, 0), (2, 0, 1)]
    assert found.suspects[0].probability == pytest.approx(0.05)
    assert found.suspects[0].likelier == pytest.approx(0.95)
    assert found.expected == pytest.approx(2.0)


def test_rows_below_every_bar_are_no_suspects() -> None:
    """A row of which the model is less sure than of the usual row of any class is not judged."""
    probabilities = np.array([[0.9, 0.1], [0.52, 0.48], [0.1, 0.9], [0.1, 0.9]])
    found = label_errors(probabilities, np.array([0, 0, 1, 1]))
    assert found.suspects == ()
    assert found.expected == 0


def test_class_without_rows() -> None:
    """A class that no row has suspects no row."""
    probabilities = np.array([[0.1, 0.1, 0.8], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert label_errors(probabilities, np.array([0, 1, 0])).expected == 0


def test_finds_flipped_labels() -> None:
    """Of 3 % flipped labels nine in ten are found, and most of the rows in doubt were flipped."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=3000)
    centres = 3.5 * np.eye(3)
    x = centres[y] + rng.normal(size=(3000, 3))
    logits = x @ centres.T
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    flipped = rng.random(3000) < 0.03
    given = np.where(flipped, (y + 1) % 3, y)
    found = label_errors(probabilities, given)
    doubted = np.zeros(3000, dtype=bool)
    doubted[[each.row for each in found.suspects]] = True
    assert doubted[flipped].mean() > 0.9
    assert flipped[doubted].mean() > 0.6
    assert found.expected == pytest.approx(doubted.sum(), rel=0.3)
