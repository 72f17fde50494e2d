"""P-values of exchangeable rows: every row of a set is the fresh one once, and the p-values are counted."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from guards import Budget, Calibration

SCORES = st.floats(width=32, allow_nan=False)
TIED = st.one_of(st.integers(0, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))
MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "affine": lambda x: 2 * x + 1,
    "cube": lambda x: x**3,
    "exp": torch.exp,
    "arctan": torch.arctan,
}


def each_in_turn(scores: list[float]) -> Tensor:
    """Give the p-value of each score, calibrated on all the others."""
    rows = torch.tensor(scores)
    others = [torch.cat([rows[:i], rows[i + 1 :]]) for i in range(len(rows))]
    return torch.cat([Calibration.from_scores(others[i]).p_value(rows[i : i + 1]) for i in range(len(rows))])


def lattice(count: int) -> Tensor:
    return torch.arange(1, count + 1) / count


@settings(deadline=None, max_examples=60)
@given(st.lists(SCORES, min_size=2, max_size=40, unique=True))
def test_distinct_scores_are_uniform_on_the_lattice(scores: list[float]) -> None:
    """Without ties the p-values of exchangeable rows take each of 1 / (n + 1), ..., 1 once."""
    assert torch.equal(each_in_turn(scores).sort().values, lattice(len(scores)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(TIED, SCORES), min_size=2, max_size=40))
def test_tied_scores_are_super_uniform(scores: list[float]) -> None:
    """With ties, NaN and infinities among the scores no level a has more than a share a of p-values at or under it."""
    assert (each_in_turn(scores).sort().values >= lattice(len(scores))).all()


def test_fresh_rows_are_uniform() -> None:
    """Over 4000 simulated calibration sets a fresh row's rank is each of 1 to n + 1 equally often."""
    n, sets = 19, 4000
    drawn = torch.randn((sets, n + 1), generator=torch.Generator().manual_seed(1))
    rank = Calibration.from_scores(drawn[:, :n]).rank(drawn[:, n:])[:, 0]
    assert chisquare(torch.bincount(rank, minlength=n + 2)[1:].numpy()).pvalue > 1e-4


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(TIED, SCORES), min_size=1, max_size=30), st.lists(SCORES, min_size=2, max_size=10))
def test_stranger_is_never_less_surprising(scores: list[float], fresh: list[float]) -> None:
    """A larger score never has a larger p-value, and no p-value leaves [1 / (n + 1), 1]."""
    p_value = Calibration.from_scores(torch.tensor(scores)).p_value(torch.tensor(sorted(fresh)))
    assert (p_value[1:] <= p_value[:-1]).all()
    assert p_value.max() <= 1
    assert p_value.min() >= torch.tensor(1.0) / (len(scores) + 1)


@pytest.mark.parametrize("name", MAPS)
@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-40, 40), min_size=20, max_size=60), st.lists(st.integers(-40, 40), min_size=1, max_size=9))
def test_increasing_maps_change_nothing(name: str, scores: list[int], fresh: list[int]) -> None:
    """P-values and ranks depend on the order of the scores alone: any increasing map leaves them as they are."""
    clean, new = torch.tensor([scores, scores[::-1]]).float(), torch.tensor([fresh, fresh]).float()
    mapped = MAPS[name](clean)
    before, after = Calibration.from_scores(clean), Calibration.from_scores(mapped)
    assert torch.equal(before.p_value(new), after.p_value(MAPS[name](new)))
    ranks = [Budget(scores=each, shares=[1, 2], budget=0.2).ranks for each in (clean, mapped)]
    assert ranks[0] == ranks[1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(TIED, SCORES), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_order_of_the_calibration_rows_does_not_matter(scores: list[float], random: object) -> None:
    """A calibration is a set: shuffled, it gives the same p-values."""
    shuffled = scores.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    fresh = torch.tensor(scores)
    before, after = (Calibration.from_scores(torch.tensor(each)).p_value(fresh) for each in (scores, shuffled))
    assert torch.equal(before, after)
