"""Intervals that hold at every moment: what they contain, that they only depend on sums, and how often they err."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guards.monitors.groups.differences import differences, ratios
from guards.statistics.confidence_sequences import asymptotic_mean_interval, mean_interval, rate_interval
from guards.statistics.rate_comparisons import difference_interval, least_log_evidence, log_evidence, ratio_interval

ALPHA = 0.05
RUNS = 400
LOOKS = np.unique(np.geomspace(1, 3000, 60).astype(int))
COUNTS = st.integers(0, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def line(d: Any) -> Any:
    return d, np.ones_like(d), np.zeros_like(d), np.ones_like(d)


@settings(deadline=None, max_examples=60)
@given(counts=COUNTS)
def test_a_rate_lies_in_its_interval(counts: tuple[int, int]) -> None:
    """The rate is inside, the interval within [0, 1], more rows at the same rate narrow it, and a larger alpha too."""
    hits, n = counts
    low, high = rate_interval(hits, n)
    assert 0 <= low <= (hits / n if n else 0.5) <= high <= 1
    closer = rate_interval(10 * hits, 10 * n)
    assert closer[1] - closer[0] <= high - low
    bolder = rate_interval(hits, n, 0.2)
    assert low <= bolder[0]
    assert bolder[1] <= high


@settings(deadline=None, max_examples=20)
@given(first=COUNTS, second=COUNTS)
def test_comparisons_contain_their_estimates(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Difference and ratio are inside, and turn over with the groups; without rows nothing is known."""
    low, high = difference_interval(first, second)
    if not first[1] or not second[1]:
        assert (low, high) == (-1, 1)
        return
    a, b = first[0] / first[1], second[0] / second[1]
    assert -1 <= low <= a - b <= high <= 1
    back = difference_interval(second, first)
    assert [-float(back[1]), -float(back[0])] == pytest.approx([float(low), float(high)], abs=2e-3)
    least, most = ratio_interval(first, second)
    assert 0 <= least <= most
    if b:
        assert least <= a / b * (1 + 1e-9)
        assert a / b <= most * (1 + 1e-9)


@settings(deadline=None, max_examples=40)
@given(first=COUNTS, second=COUNTS, d=st.floats(-0.9, 0.9))
def test_the_least_evidence_is_the_least(first: tuple[int, int], second: tuple[int, int], d: float) -> None:
    """What is found near the likeliest point is, within a fifth of a nat, the least over a fine grid of the line."""
    counts = tuple(np.array([float(v)]) for v in (*first, *second))
    found = least_log_evidence(line, counts, np.array([d]), np.array([ALPHA]))[0]  # type: ignore[arg-type]
    m = np.linspace(max(0, -d), min(1, 1 - d), 2001)
    grid = log_evidence(*counts, np.clip(m + d, 1e-7, 1 - 1e-7)[None], np.clip(m, 1e-7, 1 - 1e-7)[None])[0].min()
    if min(found, grid) < 6:  # beyond it every alpha in use is passed
        assert found <= grid + 0.2


@settings(deadline=None, max_examples=15)
@given(counts=st.lists(COUNTS, min_size=2, max_size=14))
def test_worst_pair_lies_in_its_interval(counts: list[tuple[int, int]]) -> None:
    """The largest difference and the smallest ratio of few or of many groups lie in their intervals."""
    hits, n = (np.array(column)[:, None] for column in zip(*counts, strict=True))
    for value, low, high in (differences(hits, n, ALPHA), ratios(hits, n, ALPHA)):
        if (n > 0).sum() < 2:
            assert np.isnan(value).all()
        elif not np.isnan(value[0]):
            assert 0 <= low[0] <= value[0] <= high[0] <= 1


def walks(rate: float, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.random((RUNS, LOOKS[-1])) < rate, axis=1)[:, LOOKS - 1].astype(float)


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.5])
def test_rates_are_rarely_left_out_ever(rate: float) -> None:
    """Over 60 looks at up to 3,000 rows, the true rate is outside at any look in at most 5 % of runs."""
    low, high = rate_interval(walks(rate, 1), LOOKS)
    wrong = ((low > rate) | (rate > high)).any(1).mean()
    assert wrong <= ALPHA


@pytest.mark.parametrize(("first", "second"), [(0.3, 0.3), (0.5, 0.4), (0.02, 0.02)])
def test_differences_are_rarely_left_out_ever(first: float, second: float) -> None:
    """The evidence against the true difference passes 1 / alpha at any time in at most 5 % of runs."""
    h1, h2 = walks(first, 2).ravel(), walks(second, 3).ravel()
    n = np.tile(LOOKS, RUNS).astype(float)
    true = np.full(len(n), first - second)
    q1, q2 = np.full((len(n), 1), first), np.full((len(n), 1), second)
    at_truth = log_evidence(h1, n, h2, n, q1, q2)[:, 0]
    suspicious = np.flatnonzero(at_truth >= -np.log(ALPHA))  # the least is no larger
    wrong = np.zeros(len(n), bool)
    if len(suspicious):
        counts = tuple(v[suspicious] for v in (h1, n, h2, n))
        alphas = np.full(len(suspicious), ALPHA)
        found = least_log_evidence(line, counts, true[suspicious], alphas)  # type: ignore[arg-type]
        wrong[suspicious] = found >= -np.log(ALPHA)
    assert wrong.reshape(RUNS, -1).any(1).mean() <= ALPHA


def test_gaps_are_found_by_the_target() -> None:
    """With tolerance 0 a COMPAS-sized gap is found by 120 rows a group in half of the runs, and one of .10 by 450."""
    for first, second, rows in ((0.4485, 0.2345, 120), (0.35, 0.25, 450)):
        rng = np.random.default_rng(4)
        looks = np.arange(10, rows + 1, 10)
        h1, h2 = (
            np.cumsum(rng.random((200, rows)) < p, axis=1)[:, looks - 1].astype(float).ravel() for p in (first, second)
        )
        n = np.tile(looks, 200).astype(float)
        found = least_log_evidence(line, (h1, n, h2, n), np.zeros(len(n)), np.full(len(n), ALPHA))
        assert (found >= -np.log(ALPHA)).reshape(200, -1).any(1).mean() >= 0.5


@pytest.mark.parametrize("spread", [0.02, 1.0])
def test_means_are_rarely_left_out_ever(spread: float) -> None:
    """The interval of a bounded mean is wrong at any time in at most 5 % of runs, and narrower if values vary less."""
    rng = np.random.default_rng(5)
    values = 0.2 + spread * (rng.random((RUNS, LOOKS[-1])) - 0.5)
    total, squares = (np.cumsum(v, axis=1)[:, LOOKS - 1] for v in (values, values**2))
    low, high = mean_interval(total, squares, LOOKS, (-1.0, 1.0))
    assert ((low > 0.2) | (high < 0.2)).any(1).mean() <= ALPHA
    assert (high - low)[:, -1].max() < 0.02 + 0.2 * spread


def test_asymptotic_means_are_rarely_left_out_once_there_are_rows() -> None:
    """From 100 rows on, the asymptotic interval of skewed values is wrong at any time in at most 5 % of runs."""
    rng = np.random.default_rng(6)
    values = rng.exponential(1.0, (RUNS, LOOKS[-1]))
    looks = LOOKS[LOOKS >= 100]
    total, squares = (np.cumsum(v, axis=1)[:, looks - 1] for v in (values, values**2))
    mean = total / looks
    low, high = asymptotic_mean_interval(mean, squares / looks - mean**2, looks)
    assert ((low > 1) | (high < 1)).any(1).mean() <= ALPHA
