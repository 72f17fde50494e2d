"""p-values of calibration rows among other calibration rows."""

import torch

from guards.cli.report.measures.cross_fitting import p_values_across


def test_the_strangest_row_of_ten() -> None:
    """Eight rows of the other folds give p-values in ninths: the strangest row has one ninth, the plainest has one."""
    found = p_values_across(torch.arange(10.0)[None], seed=0)[0]
    assert found[9] == 1 / 9
    assert found[0] == 1
    assert (found * 9 % 1).abs().max() < 1e-12


def test_ties_and_missing_scores() -> None:
    """Equal scores have a p-value of 1; a score that is not a number counts as the strangest."""
    scores = torch.zeros(2, 20)
    scores[1, 3] = torch.nan
    found = p_values_across(scores, seed=0)
    assert (found[0] == 1).all()
    assert found[1, 3] == 1 / 17
