"""Learning curves of simple models."""

import numpy as np
import pytest

from guards.cli.report.measures.learning_curve import head_curve, rival_curve
from guards.cli.report.measures.losses import losses


def line(n: int, seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8))
    value = x @ np.linspace(-1, 1, 8)
    return x, value, value + noise * rng.normal(size=n)


def test_losses_make_accuracy_and_r2() -> None:
    """One minus the mean loss is the accuracy of a classification, and R2 of a regression."""
    outputs = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    assert 1 - losses(outputs, np.array([0, 1, 1]), classification=True).mean() == pytest.approx(2 / 3)
    y = np.array([1.0, 2.0, 3.0])
    assert 1 - losses(y[:, None] + 1, y, classification=False).mean() == pytest.approx(1 - 1 / y.var())


def test_head_of_a_line_reaches_the_line() -> None:
    """On features of a linear rule a new head beats a poor model, and equals a perfect one."""
    x, value, y = line(500, 0)
    perfect = losses(value[:, None], y, classification=False)
    found = head_curve(x, y, perfect, classes=0, seed=0)
    assert found is not None
    assert found.sizes == (25, 50, 100, 200, 400)
    assert 1 - found.held[-1].mean() > 0.95
    assert found.held[0].mean() > found.held[-1].mean()
    assert found.ahead.low < 0.01
    poor = head_curve(x, y, losses(0 * value[:, None], y, classification=False), classes=0, seed=0)
    assert poor is not None
    assert poor.ahead.low > 0.5


def test_rows_are_judged_by_heads_that_did_not_see_them() -> None:
    """With random labels a head with as many features as rows is right by chance, and not by heart."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 250)), rng.integers(2, size=200).astype(float)
    found = head_curve(x, y, np.ones(200), classes=2, seed=0)
    assert found is not None
    assert 0.35 < found.held[-1].mean() < 0.65


def test_wide_features_are_reduced() -> None:
    """A head of a thousand features that follow eight numbers learns what the eight numbers tell."""
    x, value, y = line(400, 0)
    wide = x @ np.random.default_rng(1).normal(size=(8, 1000))
    found = head_curve(wide, y, losses(value[:, None], y, classification=False), classes=0, seed=0)
    assert found is not None
    assert 1 - found.held[-1].mean() > 0.9


def test_too_few_rows_have_no_curve() -> None:
    """Few rows, or few rows of one class, give no curve."""
    x, _, y = line(50, 0)
    assert head_curve(x, y, y, classes=0, seed=0) is None
    x, _, _ = line(100, 0)
    rare = np.zeros(100)
    rare[0] = 1
    assert head_curve(x, rare, rare, classes=2, seed=0) is None


def test_rival_finds_what_a_model_missed() -> None:
    """Trees learn a category that the user's model ignores, with unseen categories and missing values in the rows."""
    rng = np.random.default_rng(0)
    parts = []
    for n in (600, 300):
        x = np.stack([rng.normal(size=n), rng.integers(4, size=n).astype(float)], axis=1)
        y = (x[:, 1] >= 2).astype(float)
        x[rng.random(n) < 0.05, 0] = np.nan
        x[rng.random(n) < 0.02, 1] = -1
        parts.append((x, y))
    ignorant = (parts[1][1] != 0).astype(float)
    found = rival_curve(*parts, ignorant, categorical=[False, True], classes=2, seed=0)
    assert found is not None
    assert found.held[-1].mean() < 0.05
    assert found.ahead.low > 0.3


def test_no_rival_of_many_classes() -> None:
    """Trees for very many classes would take minutes, and are left out."""
    x, _, _ = line(200, 0)
    y = np.arange(200.0) % 50
    assert rival_curve((x, y), (x, y), y, categorical=[False] * 8, classes=50, seed=0) is None


def test_columns_without_a_value_do_not_hinder_the_rival() -> None:
    """A number and a category that all rows miss leave the rival the other columns."""
    x, _, y = line(400, 3)
    x = np.column_stack([x, np.full((400, 2), np.nan)])
    parts = (x[:200], y[:200]), (x[200:], y[200:])
    found = rival_curve(*parts, np.ones(200), categorical=[False] * 9 + [True], classes=0, seed=0)
    assert found is not None
    assert found.ahead.low > 0
