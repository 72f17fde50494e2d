"""The joint budget: over many calibration sets, the true rate of "any guard flags" has the law it should have.

Rows are points u in [0, 1) and scores are functions of u, so the true rate is an integral, which is computed on a grid.
For Gaussian scores, flagged fresh rows are counted instead. Every test fails for a correct implementation with a
probability below 1e-4.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, betabinom, binom, kstest
from torch import Tensor

from guards import Budget, Calibration
from guards.bundle.false_alarms import false_alarms
from guards.calibration.budget import Guarantee, allowed_ranks
from guards.config.config import parse

UNLIKELY = 1e-4
GRID = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
Score = Callable[[Tensor], Tensor]


def levels(count: int, score: Score) -> Score:
    """Round a score in [0, 1] to a few levels."""
    return lambda u: (score(u) * count).floor()


def rising(u: Tensor) -> Tensor:
    return u


def falling(u: Tensor) -> Tensor:
    return 1 - u


def wave(u: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.sin(17 * u)


def far_from_middle(u: Tensor) -> Tensor:
    return (u - 0.37).abs()


def mostly_sound(u: Tensor) -> Tensor:
    """Score 97 % of the rows 0, as ``ranges`` does."""
    return (u - 0.4).clamp(0, 0.03) * (u < 0.43)


def missing_values(u: Tensor) -> Tensor:
    """Score four levels: 0 for 96 % of the rows."""
    return (u < 0.04).double() + (u < 0.012).double() + (u < 0.001).double()


CONTINUOUS: dict[str, tuple[Sequence[Score], Sequence[float]]] = {
    "one": ([rising], [1]),
    "three": ([rising, far_from_middle, wave], [1, 1, 1]),
    "unequal shares": ([rising, falling, wave], [5, 1, 2.5]),
    "the same guard three times": ([rising, rising, rising], [1, 2, 3]),
}
TIED: dict[str, tuple[Sequence[Score], Sequence[float]]] = {
    "one of five levels": ([levels(5, rising)], [1]),
    "one of a hundred levels": ([levels(100, rising)], [1]),
    "one that is mostly sound": ([mostly_sound], [1]),
    "sound rows beside two others": ([mostly_sound, rising, wave], [1, 1, 1]),
    "missing values beside another": ([missing_values, wave], [3, 1]),
    "missing values after another": ([falling, missing_values], [1, 1]),
    "few levels all": ([levels(30, rising), levels(100, falling), levels(200, wave)], [1, 2, 1]),
    "one that never varies": ([lambda u: 0 * u, rising], [4, 1]),
    "one that is mostly unjudged": ([lambda u: torch.where(u < 0.02, math.nan, u), falling], [1, 1]),
}
SIZES: list[tuple[int, float, Guarantee]] = [(299, 0.01, "pac"), (399, 0.05, "marginal"), (500, 0.05, "pac")]


def cuts(rows: int, budget: float, guarantee: Guarantee) -> int:
    """Find the largest k for which Beta(k, n + 1 - k) has its mean, or its 95 % quantile, within the budget."""
    k = np.arange(1, rows)
    bound = k / (rows + 1) if guarantee == "marginal" else beta.ppf(0.95, k, rows + 1 - k)
    return int((bound <= budget + 1e-9).sum())


def rates(guards: Sequence[Score], shares: Sequence[float], size: tuple[int, float, Guarantee], sets: int) -> Tensor:
    """Compute the true rate at which any guard flags, for each of many calibration sets."""
    rows, budget, guarantee = size
    drawn = torch.rand((sets, rows), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    grid = torch.stack([score(GRID) for score in guards]).float()
    found = []
    for u in drawn:
        scores = torch.stack([score(u) for score in guards]).float()
        ranks = Budget(scores=scores, shares=shares, budget=budget, guarantee=guarantee).ranks
        flagged = Calibration.from_scores(scores).rank(grid) <= torch.tensor(ranks)[:, None]
        found.append(flagged.any(0).double().mean())
    return torch.stack(found)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_rate_has_the_beta_law(name: str, size: tuple[int, float, Guarantee]) -> None:
    """The true rate of any flag is distributed as Beta(k, n + 1 - k), however many guards share and depend."""
    found = rates(*CONTINUOUS[name], size, sets=500)
    k = cuts(*size)
    assert kstest(found.numpy(), beta(k, size[0] + 1 - k).cdf).pvalue > UNLIKELY


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", TIED)
def test_ties_only_lower_the_rate(name: str, size: tuple[int, float, Guarantee]) -> None:
    """With tied scores no quantile of the true rate exceeds the quantile of Beta(k, n + 1 - k)."""
    found = rates(*TIED[name], size, sets=300)
    k = cuts(*size)
    assert kstest(found.numpy(), beta(k, size[0] + 1 - k).cdf, alternative="less").pvalue > UNLIKELY


@pytest.mark.parametrize("name", [*CONTINUOUS, *TIED])
def test_pac_keeps_the_budget_in_95_of_100_fits(name: str) -> None:
    """With ``pac`` the true rate is within the budget in at least 95 % of the fits, at the fewest rows there may be."""
    sets = 400
    found = rates(*{**CONTINUOUS, **TIED}[name], (299, 0.01, "pac"), sets)
    # The grid's own error is less than one of its points for each end of a flagged interval.
    kept = int((found <= 0.01 + 4 / len(GRID)).sum())
    assert kept >= binom.ppf(UNLIKELY, sets, 0.95)


def flagged_in_turn(scores: Tensor, shares: Sequence[float], k: int) -> int:
    """Count the rows flagged when calibrated on all the others: over n + 1, the rate of exchangeable rows."""
    count = 0
    for row in range(scores.shape[1]):
        others = torch.cat([scores[:, :row], scores[:, row + 1 :]], dim=1)
        rank = Calibration.from_scores(others).rank(scores[:, row : row + 1])[:, 0]
        count += bool((rank <= torch.tensor(allowed_ranks(others, shares, k))).any())
    return count


def test_no_more_than_k_of_any_rows_are_flagged() -> None:
    """Of any n + 1 rows, however they tie, at most k are flagged in their turn: the marginal law, not simulated."""
    rng = np.random.default_rng(4)
    for _ in range(2500):
        rows, guards = int(rng.integers(2, 9)), int(rng.integers(2, 4))
        scores = np.stack([rng.integers(0, rng.choice([2, 3, 5, 100]), rows) for _ in range(guards)])
        shares, k = rng.choice([0.5, 1, 1, 2], guards).tolist(), int(rng.integers(1, min(rows, 4)))
        assert flagged_in_turn(torch.tensor(scores).float(), shares, k) <= k, (scores, shares, k)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(3, 14),
    shares=st.lists(st.sampled_from([0.3, 1, 2.5]), min_size=1, max_size=3),
    k=st.integers(1, 6),
)
def test_exactly_k_of_untied_rows_are_flagged(seed: int, rows: int, shares: list[float], k: int) -> None:
    """Of any n + 1 rows without ties exactly k are flagged in their turn."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.stack([torch.randperm(rows, generator=generator) for _ in shares]).float()
    k = min(k, rows - 1)
    assert flagged_in_turn(scores, shares, k) == k


def test_coarse_ties_of_two_guards_raise_nothing() -> None:
    """Two guards of many tied levels beside a finer one, on few rows, flag no more than the budget."""
    rows, k, sets, fresh = 60, 3, 2000, 200
    generator = torch.Generator().manual_seed(2)
    atoms = torch.stack([torch.randint(0, count, (200,), generator=generator) for count in (500, 20, 20)])
    mass = torch.rand(200, generator=generator) ** 3
    hits = []
    for _ in range(sets):
        scores = atoms[:, torch.multinomial(mass, rows + fresh, replacement=True, generator=generator)].float()
        rank = Calibration.from_scores(scores[:, :rows]).rank(scores[:, rows:])
        hits.append(float((rank <= torch.tensor(allowed_ranks(scores[:, :rows], [1, 1, 1], k))[:, None]).any(0).sum()))
    assert np.mean(hits) <= fresh * k / (rows + 1) + 4 * np.std(hits) / math.sqrt(sets)


def test_ties_waste_none_of_the_budget() -> None:
    """Beside guards without ties, a guard that calls most rows equally sound leaves its turns to them."""
    size: tuple[int, float, Guarantee] = (399, 0.05, "marginal")
    for name in ("sound rows beside two others", "one that never varies"):
        assert float(rates(*TIED[name], size, sets=200).mean()) == pytest.approx(0.05, rel=0.06)


@pytest.mark.parametrize("shares", [(1, 1, 1), (6, 1, 3)])
@pytest.mark.parametrize("correlation", [0.0, 0.8, -0.45])
def test_flagged_fresh_rows_have_the_beta_binomial_law(correlation: float, shares: tuple[float, ...]) -> None:
    """Of m fresh rows with correlated Gaussian scores, the number flagged has the beta-binomial law."""
    sets, rows, fresh, k = 500, 299, 300, 15
    matrix = (1 - correlation) * torch.eye(3) + correlation
    generator = torch.Generator().manual_seed(11)
    drawn = torch.randn((sets, rows + fresh, 3), generator=generator) @ torch.linalg.cholesky(matrix).T
    drawn = drawn.transpose(1, 2).contiguous()
    hits = []
    for scores in drawn:
        ranks = Budget(scores=scores[:, :rows], shares=shares, budget=0.05).ranks
        rank = Calibration.from_scores(scores[:, :rows]).rank(scores[:, rows:])
        hits.append(int((rank <= torch.tensor(ranks)[:, None]).any(0).sum()))
    assert uniform_p_value(hits, betabinom(fresh, k, rows + 1 - k)) > UNLIKELY


def uniform_p_value(hits: Sequence[int], law: object) -> float:
    """Test counts against a discrete law, by its distribution function smoothed with fixed draws."""
    count = np.array(hits)
    smooth = np.random.default_rng(3).random(len(count))
    placed = law.cdf(count - 1) + smooth * law.pmf(count)  # type: ignore[attr-defined]
    return float(kstest(placed, "uniform").pvalue)


def test_shares_divide_the_flags() -> None:
    """Guards that see different rows flag in proportion to their shares."""
    n, shares = 999, [4.0, 2.0, 1.0]
    scores = torch.rand((3, n), generator=torch.Generator().manual_seed(0))
    ranks = Budget(scores=scores, shares=shares, budget=0.14).ranks
    assert [rank / ranks[2] for rank in ranks] == pytest.approx([4, 2, 1], rel=0.2)


def test_299_rows_support_one_percent_for_three_guards() -> None:
    """A pac budget of 1 % takes 299 rows for three guards; 298 are refused, and the message says 299."""
    scores = torch.rand((3, 299), generator=torch.Generator().manual_seed(0))
    budget = Budget(scores=scores, shares=[1, 1, 1], budget=0.01, guarantee="pac")
    assert any(budget.ranks)
    with pytest.raises(
        ValueError, match=r"298 calibration rows cannot support .* pac guarantee: give at least 299 rows"
    ):
        Budget(scores=scores[:, 1:], shares=[1, 1, 1], budget=0.01, guarantee="pac")


@pytest.mark.parametrize("guarantee", ["marginal", "pac"])
def test_cross_fitted_count_is_unbiased(guarantee: Guarantee) -> None:
    """The count of the closing table averages to the rate k / (n + 1) of thresholds from four folds in five."""
    sets, rows, budget = 300, 500, 0.05
    config = parse(tiny_models.document("tensor", guarantee=guarantee, false_alarm_budget=budget))
    generator = torch.Generator().manual_seed(5)
    counts = []
    for _ in range(sets):
        shared = torch.randn((1, rows), generator=generator)
        measured = false_alarms(shared + torch.randn((3, rows), generator=generator), config)
        assert measured is not None
        counts.append(measured[1].flagged)
    others = rows * 4 // 5
    expected = rows * cuts(others, budget, guarantee) / (others + 1)
    error = np.std(counts, ddof=1) / math.sqrt(sets)
    assert abs(np.mean(counts) - expected) < 4 * error


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_cross_fitted_count_of_a_fit_is_in_its_band(kind: str) -> None:
    """The cross-fitted count of rows with any flag lies within the beta-binomial band of its folds."""
    found = tiny_models.fitted(kind).any_guard
    assert found is not None
    others = found.rows * 4 // 5
    k = cuts(others, 0.05, "marginal")
    law = betabinom(found.rows, k, others + 1 - k)
    assert law.ppf(UNLIKELY / 2) <= found.flagged <= law.ppf(1 - UNLIKELY / 2)
