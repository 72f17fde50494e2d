"""Numbers that a column never has, by hand."""

import math

import pytest
import torch

from guards.detectors.input_quality.familiar_values import FamiliarValues

NAN, INF = math.nan, math.inf


def fitted(x: torch.Tensor) -> FamiliarValues:
    return FamiliarValues().fit(x, torch.zeros(x.shape[1], dtype=torch.bool))


def surprise(familiar: FamiliarValues, values: list[float]) -> list[float]:
    x = torch.tensor(values)[:, None]
    return familiar(x, x.isnan())[:, 0].tolist()


def test_steps_are_the_largest_that_all_values_share() -> None:
    """Whole numbers, tenths and tens have steps; a column of fractions, and a column of zeros, have none."""
    x = torch.tensor([[1.0, 0.1, 10.0, 0.123, 0.0], [NAN, 12.3, 20.0, 7.77, 0.0], [37.0, 0.4, 250.0, 1.5, 0.0]])
    assert fitted(x).steps.tolist() == pytest.approx([1.0, 0.1, 10.0, 0.0, 0.0])


def test_a_value_between_the_steps_counts_as_never_seen() -> None:
    """Off the grid a value counts log(n + 1), with n the values of the column; a missing value counts nothing."""
    familiar = fitted(torch.tensor([[1.0], [2.0], [NAN], [7.0]]))
    expected = [0.0, math.log(4), 0.0, 0.0, 0.0]
    assert surprise(familiar, [40.0, 39.5, NAN, -3.0, INF]) == pytest.approx(expected)


def test_float32_is_no_fault() -> None:
    """Tenths are on the grid of tenths, though float32 stores a number nearby."""
    tenths = (torch.arange(1, 5000) / 10)[:, None]
    familiar = fitted(tenths[::7])
    assert not familiar(tenths, tenths.isnan()).any()


def test_new_values_are_strange_if_values_repeat() -> None:
    """A new value counts -log((values that occur once + 1) / (n + 1)), if that share is below one in a hundred."""
    repeated = torch.tensor([0.0] * 900 + [1902.0] * 90 + [7688.0] * 9 + [15024.0])[:, None]
    familiar = fitted(repeated)
    expected = [0.0, -math.log(2 / 1001), 0.0, -math.log(2 / 1001)]
    assert surprise(familiar, [1902.0, 1903.0, 15024.0, 39.0]) == pytest.approx(expected)
    different = fitted(torch.arange(1000.0)[:, None])
    assert surprise(different, [5000.0]) == [0.0]


def test_a_corrected_value_may_be_nearby() -> None:
    """A value is known if the column has it or a value within a ten-thousandth: factors of units are rounded."""
    familiar = fitted(torch.tensor([0.0] * 500 + [1902.0] * 500)[:, None])
    column = torch.tensor([0])
    assert familiar.know(torch.tensor([[1902.05, 1903.0, 0.0, 950.0]]), column).tolist() == [[True, False, True, False]]
