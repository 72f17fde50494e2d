"""Areas under curves, and their intervals, against scikit-learn, a bootstrap and repeated samples."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from guards.statistics.auroc import area, area_difference
from guards.statistics.average_precision import average_precision
from guards.statistics.explained_variance import r2

TRUTH = np.repeat([0, 1], [60, 40])


def sample(seed: int, shift: float = 1.0, *, clean: int = 60, suspect: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=clean).round(2), (generator.normal(size=suspect) + shift).round(2)


@pytest.mark.parametrize("shift", [0.0, 1.0, 9.0])
def test_areas_are_those_of_scikit_learn(shift: float) -> None:
    """Both areas equal scikit-learn's, also with ties, and lie within their intervals."""
    pair = sample(1, shift)
    values = np.concatenate(pair)
    roc, precision = area(*pair), average_precision(*pair)
    assert roc.value == pytest.approx(roc_auc_score(TRUTH, values))
    assert precision.value == pytest.approx(average_precision_score(TRUTH, values))
    for each in (roc, precision):
        assert 0 <= each.low <= each.value <= each.high <= 1
        assert each.high - each.low > 0.01


def test_interval_of_an_area_holds() -> None:
    """In repeated samples the interval holds the true area in at least 93 % of them, also near 1."""
    for shift, true in ((0.5, 0.63816), (3.0, 0.98305)):
        found = [area(*sample(seed, shift)) for seed in range(300)]
        assert np.mean([each.low <= true <= each.high for each in found]) >= 0.93


def test_interval_of_a_difference_holds_and_uses_the_pairs() -> None:
    """The interval of a difference holds the truth, is narrower for alike detectors, and has width if all is found."""
    within, widths = [], []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        clean, suspect = (generator.normal(size=100) + shift for shift in (0, 1))
        noisy = tuple(part + 0.5 * generator.normal(size=100) for part in (clean, suspect))
        found = area_difference((clean, suspect), (noisy[0], noisy[1]))
        within.append(found.low <= 0.73645 - 0.76025 <= found.high)
        widths.append(found.high - found.low)
    assert np.mean(within) >= 0.93
    one = area(*sample(0, 1.0, clean=100, suspect=100))
    assert np.mean(widths) < one.high - one.low
    found_all = area_difference(sample(1, 20.0), sample(1, 30.0))
    assert found_all.low < 0 < found_all.high


def test_single_rows_have_an_interval() -> None:
    """One clean and one suspect row tell next to nothing, and the interval says so."""
    found = area(np.zeros(1), np.ones(1))
    assert found.value == 1
    assert found.low < 0.3


def test_explained_variance() -> None:
    """R2 equals one minus the ratio of sums, its interval holds the truth, and values that do not vary have none."""
    within = []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        value = generator.normal(size=200)
        found = r2(value + generator.normal(size=200), value)
        assert found is not None
        within.append(found.low <= 0.5 <= found.high)
    assert np.mean(within) >= 0.92
    assert r2(np.ones(5), np.arange(5.0)) is None
    exact = r2(np.arange(5.0), np.arange(5.0))
    assert exact is not None
    assert (exact.value, exact.high) == (1, 1)
