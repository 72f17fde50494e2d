"""The threshold of risk-controlled abstention, on counts that can be worked out by hand."""

import pytest
import torch
from scipy.stats import beta, binom
from torch import Tensor

from guards.calibration.abstention import Abstention, NoThresholdError, answered_rows_needed, tail


def rows(count: int, wrong: list[int]) -> tuple[Tensor, Tensor]:
    """Give rows with scores 1 / count to 1, of which those at the places ``wrong`` have a wrong label."""
    mark = torch.zeros(count, dtype=torch.bool)
    mark[wrong] = True
    return torch.arange(1.0, count + 1) / count, mark


@pytest.mark.parametrize(("wrong", "answered", "rate"), [(0, 59, 0.05), (3, 100, 0.05), (40, 5000, 0.01), (9, 9, 0.5)])
def test_tail_is_binomial(wrong: int, answered: int, rate: float) -> None:
    """The tail is scipy's binomial distribution."""
    found = tail(torch.tensor([answered, 7]), torch.tensor([wrong, 0]), rate)
    assert found.tolist() == pytest.approx([binom.cdf(wrong, answered, rate), (1 - rate) ** 7], rel=1e-6)


def test_the_threshold_by_hand() -> None:
    """With all errors above a score of 0.8, the threshold is the last candidate that the binomial test passes."""
    aside, calibration = rows(100, list(range(80, 100))), rows(1000, list(range(800, 1000)))
    found = Abstention.choose(0.05, aside, calibration)
    # Of 820 answered rows 20 are wrong, of 830 30 are: 820 and 830 pass the test of level 5 %, 840 with 40 do not.
    passing = [n for n in range(800, 1000, 10) if binom.cdf(n - 800, n, 0.05) <= 0.05]
    assert (found.answered, found.wrong) == (passing[-1], passing[-1] - 800)
    assert found.limit == pytest.approx(passing[-1] / 1000)
    assert found.rows == 1000
    assert found.share == passing[-1] / 1000
    assert found.bound == pytest.approx(beta.ppf(0.95, found.wrong + 1, found.answered - found.wrong), rel=1e-6)
    assert found.bound <= 0.05


def test_a_model_that_is_never_wrong_answers_everything() -> None:
    """If the target holds on all rows, the limit is the largest finite number: only a score that is NaN abstains."""
    found = Abstention.choose(0.05, rows(50, []), rows(100, []))
    assert found.share == 1
    assert found.limit == torch.finfo(torch.float32).max


@pytest.mark.parametrize("target", [0.01, 0.05, 0.2])
def test_the_rows_that_a_target_needs(target: float) -> None:
    """So many rows without an error prove the target, and one row fewer does not."""
    needed = answered_rows_needed(target)
    assert Abstention.choose(target, rows(50, []), rows(needed, [])).answered == needed
    with pytest.raises(NoThresholdError, match="too few rows to prove") as refused:
        Abstention.choose(target, rows(50, []), rows(needed - 1, []))
    assert refused.value.rows == needed


def test_a_hopeless_target_is_refused_as_such() -> None:
    """If even the most certain rows are wrong more often than the target, no number of rows is named."""
    every_third = list(range(0, 900, 3))
    with pytest.raises(NoThresholdError, match=r"no number of rows proves an error rate of 0\.05") as refused:
        Abstention.choose(0.05, rows(300, every_third[:100]), rows(900, every_third))
    assert refused.value.rows is None


def test_the_rows_named_by_a_refusal_would_do() -> None:
    """With the number of rows that a refusal names, rows of the same kind pass."""
    aside, few = rows(100, [10, 99]), rows(100, [10, 99])
    with pytest.raises(NoThresholdError) as refused:
        Abstention.choose(0.03, aside, few)
    assert refused.value.rows is not None
    times = -(-refused.value.rows // 100)
    scores, wrong = few
    assert Abstention.choose(0.03, aside, (scores.repeat(times), wrong.repeat(times))).bound <= 0.03


def test_a_tensor_keeps_all() -> None:
    """What a bundle keeps gives the same threshold and counts back."""
    found = Abstention(0.05, float(torch.tensor(0.1)), 1000, 900, 30)
    assert Abstention.from_tensor(0.05, found.tensor()) == found
