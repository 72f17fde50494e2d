"""The ranks up to which guards flag: worked out by hand, and by the laws of beta and binomial distributions."""

import math

import pytest
import torch
from scipy.stats import beta, binom

from guards import Budget, Calibration
from guards.calibration.budget import allowed_ranks, largest_supported_rank, rows_needed


@pytest.mark.parametrize("rows", [1, 10, 98, 99, 100, 299, 1000, 20000])
@pytest.mark.parametrize("budget", [0.001, 0.01, 0.05, 0.3])
def test_supported_rank_is_the_largest(rows: int, budget: float) -> None:
    """The rank is the largest whose mean rate (marginal) or 95 % quantile (pac) keeps the budget."""
    marginal = largest_supported_rank(rows, budget, "marginal")
    assert marginal / (rows + 1) <= budget + 1e-12
    assert (marginal + 1) / (rows + 1) > budget
    pac = largest_supported_rank(rows, budget, "pac")
    assert pac <= marginal
    if pac:
        assert beta.ppf(0.95, pac, rows + 1 - pac) <= budget + 1e-9
        assert binom.sf(pac - 1, rows, budget) >= 0.95 - 1e-9
    assert binom.sf(pac, rows, budget) < 0.95


@pytest.mark.parametrize("guarantee", ["marginal", "pac"])
@pytest.mark.parametrize("budget", [0.002, 0.01, 0.05, 0.1, 0.5])
def test_rows_needed_are_the_fewest(guarantee: str, budget: float) -> None:
    """As many rows as a refusal asks for are enough, and one row less is not."""
    rows = rows_needed(budget, guarantee)
    assert largest_supported_rank(rows, budget, guarantee) >= 1
    assert largest_supported_rank(rows - 1, budget, guarantee) == 0


@pytest.mark.parametrize(("guarantee", "rows"), [("marginal", 98), ("pac", 298)])
def test_budget_without_support_is_refused(guarantee: str, rows: int) -> None:
    """Too few rows are refused with how many would do."""
    with pytest.raises(ValueError, match=rf"give at least {rows + 1} rows, or a larger false_alarm_budget"):
        Budget(scores=torch.rand(2, rows), shares=[1, 1], budget=0.01, guarantee=guarantee)
    Budget(scores=torch.rand(2, rows + 1), shares=[1, 1], budget=0.01, guarantee=guarantee)


def test_one_guard_gets_the_whole_budget() -> None:
    """One guard flags at rank k: the k-th strangest calibration row is the first row that it lets pass."""
    scores = torch.arange(1.0, 100.0)[None]
    budget = Budget(scores=scores, shares=[1.0], budget=0.05)
    assert budget.ranks == [5]
    assert budget.threshold(0) == 0.05
    rank = Calibration.from_scores(scores).rank(torch.tensor([[95.5, 95.0]]))
    assert (rank <= 5).tolist() == [[True, False]]


def test_guards_take_turns_by_their_shares() -> None:
    """On separate strange rows the cuts are divided as the shares are."""
    n = 99
    scores = torch.zeros((2, n)) + torch.arange(n) * 1e-3
    scores[0, :40] += torch.arange(40.0) + 10
    scores[1, 40:80] += torch.arange(40.0) + 10
    assert Budget(scores=scores, shares=[1, 1], budget=0.2).ranks == [10, 10]
    assert Budget(scores=scores, shares=[3, 1], budget=0.2).ranks == [15, 5]
    assert Budget(scores=scores, shares=[1, 9], budget=0.2).ranks == [2, 18]


def test_guards_that_agree_share_their_cuts() -> None:
    """Two guards with the same scores flag together what one would flag alone."""
    scores = torch.rand(1, 99, generator=torch.Generator().manual_seed(0)).expand(2, -1)
    ranks = Budget(scores=scores, shares=[1, 1], budget=0.1).ranks
    assert max(ranks) == 10
    assert min(ranks) == 9


def test_guard_whose_scores_all_tie_leaves_its_turns() -> None:
    """A guard to which no row is strange never flags clean rows, and its part goes to the other."""
    scores = torch.stack([torch.zeros(99), torch.arange(99.0)])
    ranks = allowed_ranks(scores, [1, 1], 10)
    rank = Calibration.from_scores(scores).rank(torch.tensor([[0.0], [0.0]]))
    assert rank[0] > ranks[0]
    assert ranks[1] == 10
    assert Calibration.from_scores(scores).rank(torch.tensor([[1.0], [0.0]]))[0] <= ranks[0]


def test_small_share_cannot_flag() -> None:
    """A guard whose share is less than one cut has rank 0, and threshold 0."""
    budget = Budget(scores=torch.rand(2, 99), shares=[1000, 1], budget=0.02)
    assert budget.ranks == [2, 0]
    assert budget.threshold(1) == 0


def test_share_of_zero_never_flags() -> None:
    """A guard without a share takes no turn; if no guard has a share, no row is flagged."""
    scores = torch.rand(2, 99)
    assert allowed_ranks(scores, [0, 1], 5) == [0, 5]
    assert allowed_ranks(scores, [0, 0], 5) == [0, 0]


def test_nan_scores_use_up_budget() -> None:
    """Calibration rows that cannot be judged are the strangest: they are cut off first."""
    scores = torch.arange(99.0)[None].clone()
    scores[0, :3] = torch.nan
    assert Budget(scores=scores, shares=[1], budget=0.05).ranks == [5]
    rank = Calibration.from_scores(scores).rank(torch.tensor([[98.0, 97.5, 96.5]]))
    assert (rank <= 5).tolist() == [[True, True, False]]


def test_ties_of_several_guards_cost_no_more_than_the_budget() -> None:
    """Two guards of three levels beside a continuous one touch k of n + 1 clean rows on average, and not more."""
    rows, k, sets = 300, 15, 1000
    generator = torch.Generator().manual_seed(3)
    levels = [torch.tensor([0.97, 0.02, 0.01]), torch.tensor([0.96, 0.03, 0.01])]
    rates = []
    for _ in range(sets):
        tied = [torch.multinomial(p, rows, replacement=True, generator=generator).float() for p in levels]
        scores = torch.stack([*tied, torch.rand(rows, generator=generator)])
        ranks = allowed_ranks(scores, [1, 1, 1], k)
        level = Calibration.from_scores(scores[:2]).rank(torch.arange(3.0).repeat(2, 1))
        alarms = [float(p[level[j] <= ranks[j]].sum()) for j, p in enumerate(levels)]
        above = 1 - scores[2].sort().values[rows - ranks[2]] if ranks[2] else 0.0
        rates.append(1 - (1 - alarms[0]) * (1 - alarms[1]) * (1 - float(above)))
    rate = torch.tensor(rates)
    assert rate.mean() * (rows + 1) <= k + 4 * rate.std() * (rows + 1) / math.sqrt(sets)
