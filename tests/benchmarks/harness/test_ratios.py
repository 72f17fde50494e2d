"""Ratios are taken within rounds, and their interval is the interval of the sign test."""

import math

import numpy as np
import pytest

from benchmarks.harness.ratios import ratios, spread


def test_ratios_are_of_the_same_round() -> None:
    """A machine that is twice as slow in one round moves no ratio."""
    found = ratios([10.0, 5.0, 10.0], [20.0, 10.0, 20.0])
    assert (found.least, found.median, found.greatest) == (0.5, 0.5, 0.5)
    assert str(found) == "0.5"


def test_the_interval_is_written_if_rounds_differ() -> None:
    """The table's cell has the median with the least and the greatest."""
    assert str(spread([1.0, 3.0, 2.0])) == "2 [1, 3]"


def test_the_interval_misses_the_median_as_often_as_it_says() -> None:
    """The interval of five rounds misses the true median in 2**-4 of all cases, whatever the distribution."""
    rng = np.random.default_rng(1)
    runs = 4000
    missed = 0
    for _ in range(runs):
        found = spread((rng.pareto(1.0, 5) + 1).tolist())
        missed += not found.least <= 2.0 <= found.greatest  # the median of a Pareto distribution of shape 1
    assert abs(missed / runs - 2**-4) < 4 * math.sqrt(2**-4 * (1 - 2**-4) / runs)


def test_nothing_to_compare_is_refused() -> None:
    """No rounds, and rounds of different number, are errors; a figure beside nothing is nan."""
    with pytest.raises(ValueError, match="no rounds"):
        spread([])
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])
    assert math.isnan(ratios([1.0], [0.0]).median)
