"""Coarse probabilities."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from guards.memory.staircase import STEPS, blurred, brier_scores


@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.floats(0.1, 50))
def test_the_label_stays_and_little_else(classes: int, seed: int, sharpness: float) -> None:
    """Coarse probabilities are a distribution with the same largest class, and one of few values for it."""
    logits = torch.randn(200, classes, generator=torch.Generator().manual_seed(seed)) * sharpness
    exact = torch.softmax(logits, 1)
    coarse = blurred(exact)
    torch.testing.assert_close(coarse.sum(1), torch.ones(200))
    assert torch.equal(coarse.argmax(1), exact.argmax(1))
    assert (coarse.max(1).values > coarse.topk(2).values[:, 1]).all()
    assert len(set(coarse.max(1).values.tolist())) <= STEPS
    assert torch.equal(blurred(exact), coarse)


def test_a_small_change_disappears() -> None:
    """Within a step, the answer does not change at all, whatever happens to the other classes."""
    near = torch.tensor([[0.71, 0.2, 0.09], [0.72, 0.14, 0.14], [0.69, 0.01, 0.3]])
    assert len(set(map(tuple, blurred(near).tolist()))) == 1


def test_the_cost_is_the_difference_of_brier_scores() -> None:
    """Of rows whose exact probabilities are right, coarse ones have a higher Brier score; both lie between 0 and 2."""
    exact = torch.softmax(torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)) * 2, 1)
    labels = torch.multinomial(exact, 1, generator=torch.Generator().manual_seed(1))[:, 0]
    before, after = brier_scores(exact, labels)
    assert 0 < before < after < 2
