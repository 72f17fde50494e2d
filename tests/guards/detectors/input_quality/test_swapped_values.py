"""The odds of a swap, by hand."""

import math

import pytest
import torch

from guards.detectors.input_quality.swapped_values import SwappedValues

NAN = math.nan


def reference() -> torch.Tensor:
    """Hours, mostly 40; ages from 20 to 59, all alike; a fraction that never repeats; and a category."""
    hours = torch.tensor([40.0, 40.0, 40.0, 30.0]).repeat(1000)
    ages = torch.arange(4000.0) % 40 + 20
    fractions = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    return torch.stack([hours, fractions, ages, torch.arange(4000) % 2], dim=1)


def odds(row: list[float]) -> torch.Tensor:
    x = reference()
    swaps = SwappedValues().fit(x, torch.tensor([False, False, False, True]))
    assert swaps.places.tolist() == [0, 2]
    found: torch.Tensor = swaps(torch.tensor([row]).T.contiguous())[:, :, 0]
    return found


@pytest.mark.parametrize(
    ("hours", "age", "expected"),
    [
        (40.0, 30.0, math.log(1 / 40 * 1 / 4) - math.log(3 / 4 * 1 / 40)),
        (30.0, 40.0, math.log(1 / 40 * 3 / 4) - math.log(1 / 4 * 1 / 40)),
        (40.0, 40.0, 0.0),
        # 23 hours are new: two values share 1 / 4001, the share of new values
        (23.0, 40.0, math.log(1 / 40 * 3 / 4) - math.log(1 / 4001 / 2 * 1 / 40)),
        (NAN, 40.0, 0.0),
        (40.0, NAN, 0.0),
    ],
)
def test_the_odds_by_hand(hours: float, age: float, expected: float) -> None:
    """The odds compare the shares of both values in each other's column with those in their own."""
    assert odds([hours, 0.5, age, 1.0]).flatten().tolist() == pytest.approx([0.0, expected, expected, 0.0], abs=1e-4)


def test_only_numbers_that_repeat_are_compared() -> None:
    """Fractions, a category and a missing column are in no pair; without two columns of repeating numbers none is."""
    assert odds([40.0, 0.5, 30.0, 1.0]).shape == (2, 2)
    none = SwappedValues().fit(reference()[:, [0, 1]], torch.tensor([False, False]))
    assert none.places.tolist() == []
    empty = SwappedValues().fit(torch.full((500, 2), NAN), torch.tensor([False, False]))
    assert empty.places.tolist() == []


def test_a_wide_table_has_no_pair() -> None:
    """Among more than 32 columns of repeating numbers no swap is looked for."""
    x = (torch.arange(4000)[:, None] * torch.arange(1, 41) % 7).float()
    assert len(SwappedValues().fit(x[:, :32], torch.zeros(32, dtype=torch.bool)).places) == 32
    assert len(SwappedValues().fit(x, torch.zeros(40, dtype=torch.bool)).places) == 0
