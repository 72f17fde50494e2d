"""What the report says of simple models beside the user's model."""

import numpy as np
import pytest

from guards.cli.report.measures.differences import Difference
from guards.cli.report.measures.learning_curve import LearningCurve
from guards.cli.report.sections.simple_models import head_finding, rival_finding


def ahead_by(gain: float, loss: float) -> LearningCurve:
    held, model = np.full(8, loss - gain), np.full(8, loss)
    ahead = Difference(gain, gain - 0.001, gain + 0.001)
    return LearningCurve((50, 100), (held, held), model, Difference(0.0, -0.1, 0.1), ahead)


def test_a_little_gain_is_fine() -> None:
    """A gain of 0.3 points over a model that leaves a fifth of the variance needs no look, and is said."""
    curve = ahead_by(0.003, 0.2)
    for found in (rival_finding(curve), head_finding(curve)):
        assert found.level == "good"
        assert "by 0.3 points" in found.sentence
        assert "that is little" in found.sentence
        assert "underfits" not in found.sentence


@pytest.mark.parametrize(("gain", "loss"), [(0.009, 0.01), (0.03, 0.5)])
def test_a_gain_that_matters_needs_a_look(gain: float, loss: float) -> None:
    """Most of a small loss, or more than two points of a large loss, need a look."""
    curve = ahead_by(gain, loss)
    assert [rival_finding(curve).level, head_finding(curve).level] == ["look", "look"]
    assert "underfits" in rival_finding(curve).sentence


def test_a_large_gain_of_trees_needs_action() -> None:
    """Trees that beat the model by five points need action."""
    assert rival_finding(ahead_by(0.05, 0.5)).level == "act"
