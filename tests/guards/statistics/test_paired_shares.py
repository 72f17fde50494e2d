"""The difference between two shares of the same rows, and its interval."""

import numpy as np

from guards.statistics.paired_shares import difference_of_shares


def test_interval_holds_and_uses_the_pairs() -> None:
    """In repeated samples the interval holds the truth, and pairs make it narrower than its two shares' intervals."""
    within, widths = [], []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        first = generator.random(120) < 0.7
        second = np.where(generator.random(120) < 0.15, generator.random(120) < 0.9, first)
        found = difference_of_shares(first, second)
        within.append(found.low <= 0.15 * 0.2 <= found.high)
        widths.append(found.high - found.low)
    assert np.mean(within) >= 0.93
    assert np.mean(widths) < 0.14


def test_equal_marks_differ_by_nothing_that_is_sure() -> None:
    """If both mark every row, the difference is 0, and its interval has width: the next row may be another one."""
    found = difference_of_shares(np.ones(50, dtype=bool), np.ones(50, dtype=bool))
    assert found.value == 0
    assert found.low < 0 < found.high
