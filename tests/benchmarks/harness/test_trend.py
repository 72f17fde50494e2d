"""A trend is the growth of a line, and its interval holds the truth as often as it says."""

import numpy as np
import pytest

from benchmarks.harness.trend import trend

SECONDS = np.arange(120.0)


def test_a_line_is_found_exactly() -> None:
    """Samples on a line have its growth, and an interval without width."""
    found = trend(SECONDS, 100 + 0.5 * SECONDS)
    assert (found.growth, found.least, found.greatest) == pytest.approx((59.5, 59.5, 59.5))
    assert not found.is_flat
    assert found.mean == pytest.approx(100 + 0.5 * 59.5)


def test_a_constant_is_flat() -> None:
    """A figure that never changes has no growth, and an interval without width."""
    found = trend(SECONDS, [87.5] * 120)
    assert (found.growth, found.least, found.greatest, found.is_flat) == (0, 0, 0, True)


def test_noise_without_growth_is_flat() -> None:
    """Of many series of noise around a constant, the interval holds zero in about 95 of 100."""
    rng = np.random.default_rng(5)
    held = [trend(SECONDS, series) for series in 300 + rng.normal(size=(400, 120))]
    share = np.mean([found.least <= 0 <= found.greatest for found in held])
    assert 0.92 <= share <= 0.98


def test_a_leak_is_seen() -> None:
    """Growth of a hundredth in the time of the samples, beside noise of a thousandth, is not flat."""
    rng = np.random.default_rng(6)
    found = trend(SECONDS, 300 + SECONDS * 3 / 120 + 0.3 * rng.normal(size=120))
    assert not found.is_flat
    assert found.growth == pytest.approx(3, abs=0.5)


def test_few_samples_are_refused() -> None:
    """Two samples are always on a line, so they say nothing."""
    with pytest.raises(ValueError, match="three samples"):
        trend([0.0, 1.0], [1.0, 2.0])
