"""The surprise of patterns of missing values, by hand."""

import math

import pytest
import torch

from guards.detectors.input_quality.missing_patterns import MissingPatterns


def test_patterns_by_hand() -> None:
    """A known pattern counts -log((rows + 1) / (n + 1)); an unknown pattern counts more, rare parts most."""
    missing = torch.tensor([[False, False, False]] * 7 + [[True, True, False]] * 2)
    patterns = MissingPatterns().fit(missing)
    rows = torch.tensor([[False, False, False], [True, True, False], [True, False, False], [False, False, True]])
    shares = torch.tensor([3.0, 3.0, 1.0]) / 11

    def alone(row: list[bool]) -> float:
        return sum(-math.log(share if one else 1 - share) for share, one in zip(shares.tolist(), row, strict=True))

    expected = [
        -math.log(8 / 10),
        -math.log(3 / 10),
        math.log(10) + alone([True, False, False]),
        math.log(10) + alone([False, False, True]),
    ]
    assert patterns(rows).tolist() == pytest.approx(expected, rel=1e-5)


def test_columns_that_are_missing_together_are_no_surprise() -> None:
    """Two columns that are missing in the same tenth of the rows surprise once, and one of them alone is unknown."""
    missing = torch.zeros(1000, 2, dtype=torch.bool)
    missing[:100] = True
    both, one = MissingPatterns().fit(missing)(torch.tensor([[True, True], [True, False]])).tolist()
    assert both == pytest.approx(-math.log(101 / 1001), rel=1e-5)
    assert one > math.log(1001)
