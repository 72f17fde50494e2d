"""Sound rows are found with numpy, by the comparisons of torch."""

import math

import pytest
import torch
from torch import Tensor

from guards.detectors.input_quality.familiar_values import FamiliarValues
from guards.detectors.input_quality.sound_bounds import SoundBounds


def reference() -> Tensor:
    """A column of repeated amounts, a column of whole numbers, a column of fractions, and a category."""
    generator = torch.Generator().manual_seed(0)
    amounts = torch.tensor([0.0, -2.5, 7.0, 9.5])[torch.randint(4, (3000,), generator=generator)]
    whole = torch.arange(3000.0)
    fractions = 3000 * torch.rand(3000, generator=generator)
    return torch.stack([amounts, whole, fractions, torch.arange(3000) % 3], dim=1)


def sound(row: list[float], *, missing_is_sound: bool = True) -> bool:
    x = reference()
    familiar = FamiliarValues().fit(x, torch.tensor([False, False, False, True]))
    low, high = x.amin(0), x.amax(0)
    low[3], high[3] = 0, math.inf
    undeclared = torch.full((4,), math.nan)
    bounds = SoundBounds(
        learned=(low, high),
        declared=(undeclared, undeclared),
        image=False,
        familiar=familiar,
        missing_is_sound=missing_is_sound,
    )
    held = bounds.hold(torch.tensor([row, [0.0, 1.0, 1.5, 0.0]]).numpy())
    x = torch.tensor([row])
    unfamiliar = familiar(x, x.isnan()) > 0
    outside = (x < low) | (x > high)
    assert held is not bool((unfamiliar | outside).any() or (not missing_is_sound and bool(x.isnan().any())))
    return held


@pytest.mark.parametrize(
    ("row", "is_sound"),
    [
        ([0.0, 7.0, 1.5, 2.0], True),
        ([-0.0, -0.0, 1.5, 0.0], True),
        ([-2.5, 7.0, 1.5, 2.0], True),
        ([9.5, 2999.0, 1.5, 2.0], True),
        ([1.0, 7.0, 1.5, 2.0], False),  # an amount that the column never has
        ([-2.0, 7.0, 1.5, 2.0], False),
        ([0.0, 7.5, 1.5, 2.0], False),  # a fraction among whole numbers
        ([0.0, 3000.0, 1.5, 2.0], False),  # out of bounds
        ([7.0, 7.0, -1.5, 2.0], False),
        ([math.inf, 7.0, 1.5, 2.0], False),
        ([0.0, 7.0, 1.5, -1.0], False),  # an unseen category
    ],
)
def test_sound_rows_by_hand(row: list[float], is_sound: bool) -> None:
    """A row is sound if every value is in bounds and familiar; torch says the same."""
    assert sound(row) is is_sound
    assert sound(row, missing_is_sound=False) is is_sound


@pytest.mark.parametrize("place", range(4))
def test_a_missing_value_is_sound_if_patterns_are_judged(place: int) -> None:
    """A missing value is no fault if its pattern is judged elsewhere, and is one otherwise."""
    row = [0.0, 7.0, 1.5, 2.0]
    row[place] = math.nan
    assert sound(row)
    assert not sound(row, missing_is_sound=False)
