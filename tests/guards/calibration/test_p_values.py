"""P-values of calibration scores, and the ranks that keep a budget, against counts done by hand."""

import math

import pytest
import torch

from guards import Calibration


def test_p_values_by_hand() -> None:
    """A p-value is one plus the scores at least as large, out of n + 1; ties count against the alarm."""
    calibration = Calibration.from_scores(torch.tensor([3.0, 1.0, 2.0, 2.0]))
    p_value = calibration.p_value(torch.tensor([0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 9.0]))
    assert p_value.tolist() == pytest.approx([1.0, 1.0, 0.8, 0.8, 0.4, 0.4, 0.2])
    assert calibration.rank(torch.tensor([2.0])).tolist() == [4]
    assert len(calibration) == 4


def test_p_values_of_several_guards() -> None:
    """Scores (g, n) are ranked each among the scores of their own guard."""
    scores = torch.tensor([[1.0, 2.0, 3.0], [30.0, 10.0, 20.0]])
    both = Calibration.from_scores(scores)
    score = torch.tensor([[2.5, 0.0], [2.5, 25.0]])
    alone = [Calibration.from_scores(scores[i]).rank(score[i]) for i in range(2)]
    assert torch.equal(both.rank(score), torch.stack(alone))
    assert len(both) == 3


def test_nan_is_the_strangest_score() -> None:
    """NaN counts as plus infinity, when calibrating and when judging."""
    calibration = Calibration.from_scores(torch.tensor([1.0, math.nan, 2.0]))
    p_value = calibration.p_value(torch.tensor([math.nan, math.inf, 5.0, -math.inf]))
    assert p_value.tolist() == [0.5, 0.5, 0.5, 1.0]


@pytest.mark.parametrize("scores", [torch.empty(0), torch.empty((2, 0)), torch.tensor(1.0), torch.zeros((1, 1, 1))])
def test_calibration_needs_scores(scores: torch.Tensor) -> None:
    """No scores, or scores of another shape, are refused."""
    with pytest.raises(ValueError, match="at least one score of each guard"):
        Calibration.from_scores(scores)
