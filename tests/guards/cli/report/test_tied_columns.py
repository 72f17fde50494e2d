"""Columns that say nothing, or nothing new."""

import numpy as np
import pytest

from guards.cli.report.measures.tied_columns import (
    constant_columns,
    correlated_pairs,
    distinct_counts,
    one_to_one,
    share_explained,
)

ROWS = 400


@pytest.fixture
def x() -> np.ndarray:
    """Give two free columns, twice the first, their sum, a code of the first's sign, that code negated, and a 1."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, ROWS))
    code = (a > 0).astype(float)
    return np.stack([a, b, 2 * a + 1, a + b, code, 7 - code, np.ones(ROWS)], axis=1)


def test_constant_columns(x: np.ndarray) -> None:
    """A column of one value is constant, also if all its values are missing; a value and missing values are two."""
    some, every = np.ones(ROWS), np.full(ROWS, np.nan)
    some[0] = np.nan
    assert constant_columns(np.column_stack([x, some, every])) == [6, 8]


def test_distinct_values_leave_missing_ones_out() -> None:
    """A missing value is no value."""
    assert distinct_counts(np.array([[1.0, np.nan], [1.0, 2.0], [3.0, np.nan]])) == [2, 1]


def test_correlated_pairs(x: np.ndarray) -> None:
    """A column and its double are a pair; a column and its sum with another are not, nor is the constant column."""
    found = correlated_pairs(x, list(range(7)))
    assert [(each.first, each.second) for each in found] == [(0, 2), (4, 5)]
    assert [each.correlation for each in found] == pytest.approx([1.0, -1.0])


def test_correlation_with_missing_values(x: np.ndarray) -> None:
    """A few missing values do not hide a pair."""
    x[::50, 0] = np.nan
    assert (0, 2) in [(each.first, each.second) for each in correlated_pairs(x, [0, 1, 2])]


def test_share_that_others_explain() -> None:
    """The share is 1 - 1/VIF: the R2 of the regression on the other columns, and 1 for an exact sum."""
    rng = np.random.default_rng(1)
    a, b, noise = rng.normal(size=(3, ROWS))
    x = np.stack([a, b, a + noise], axis=1)
    found = share_explained(x, [0, 1, 2])
    design = np.column_stack([a, b, np.ones(ROWS)])
    residual = x[:, 2] - design @ np.linalg.lstsq(design, x[:, 2], rcond=None)[0]
    assert found[2] == pytest.approx(1 - residual.var() / x[:, 2].var())
    exact = share_explained(np.column_stack([a, b, a + b]), [0, 1, 2])
    assert list(exact.values()) == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)
    assert share_explained(x, [0]) == {}


def test_one_to_one(x: np.ndarray) -> None:
    """A code and its negative tell each other; a column of many values tells nothing by this rule."""
    assert [(each.first, each.second, each.correlation) for each in one_to_one(x)] == [(4, 5, None)]


def test_one_to_one_needs_both_ways() -> None:
    """A finer code that tells a coarser code is not told by it."""
    fine = np.tile(np.arange(4.0), 100)
    assert one_to_one(np.stack([fine, fine // 2], axis=1)) == []
