"""Differences with intervals."""

import numpy as np
import pytest
from scipy.stats import binomtest

from guards.cli.report.measures.differences import difference, difference_of_losses


def test_newcombes_example() -> None:
    """With Wilson's intervals the interval of 56/70 - 48/80 is the one that Newcombe 1998 gives (method 10)."""
    wilson = [binomtest(hits, n).proportion_ci(method="wilson") for hits, n in ((56, 70), (48, 80))]
    found = difference(0.8, tuple(wilson[0]), 0.6, tuple(wilson[1]))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_equal_losses_still_have_an_interval() -> None:
    """If two models are right on the same rows, the difference is 0, and is not known exactly."""
    found = difference_of_losses(np.zeros(98), np.zeros(98))
    assert found.value == 0
    assert found.high == -found.low == pytest.approx(1.959964 * (2 / 100) ** 0.5 / 98**0.5)


def test_paired_intervals_cover() -> None:
    """The interval of a difference between error rates holds the true difference in about 95 % of the samples."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        shared = rng.random(200)
        found = difference_of_losses((shared < 0.3).astype(float), (shared < 0.25).astype(float))
        held += found.low <= 0.05 <= found.high
    assert held / 600 >= 0.93
