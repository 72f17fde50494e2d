"""The lifts of a batch are computed once, in one pass over both densities."""

import copy
import math

import pytest
import torch
from torch import Tensor

from guards.detectors.input_quality.combinations import Combinations, Lifts

CATEGORICAL = torch.tensor([False, True, False, True, False, False])


def rows(n: int, seed: int) -> Tensor:
    """Two related numbers, two related categories and two counts; the second half of the rows lacks some values."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(4, (n,), generator=generator).float()
    number = group + torch.randn(n, generator=generator)
    near = number + 0.3 * torch.randn(n, generator=generator)
    counts = torch.randint(6, (2, n), generator=generator)
    x = torch.stack([number, group, near, 3 - group, counts[0], 3 * (counts[1] // 2)], dim=1)
    lost = torch.rand(x.shape, generator=generator) < 0.2
    lost[: n // 2] = False
    return x.masked_fill(lost, math.nan)


@pytest.fixture(scope="module")
def combinations() -> Combinations:
    return Combinations().fit(rows(4000, 0), CATEGORICAL)


def lifts_one_by_one(combinations: Combinations, x: Tensor) -> Lifts:
    """The lifts, with each part asked by itself."""
    columns = x.T.contiguous()
    cell = combinations.cells(columns).T
    return Lifts(
        pattern=combinations.patterns(x.isnan()),
        values=combinations.classes(cell),
        numbers=combinations.copula(columns, cell),
        swaps=combinations.swaps(columns),
    )


def same(one: Lifts, other: Lifts) -> bool:
    for first, second in ((one.numbers, other.numbers), (one.swaps, other.swaps)):
        assert first is not None
        assert second is not None
        if not torch.equal(first, second):
            return False
    return torch.equal(one.pattern, other.pattern) and torch.equal(one.values, other.values)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("n", [1, 32, 200])
def test_one_pass_gives_the_bits_of_its_parts(combinations: Combinations, n: int, inference: bool) -> None:
    """One pass gives the bits that each part gives by itself, whether values are missing or not."""
    with torch.inference_mode(inference):
        x = rows(400, 1)
        for part in (x[:n], x[-n:]):
            assert same(combinations.lifts(part, part.isnan()), lifts_one_by_one(combinations, part))


def test_the_surprise_is_the_largest_of_the_views(combinations: Combinations) -> None:
    """The surprise is the largest surprise of the three views."""
    x = rows(100, 2)
    lifts = combinations.lifts(x, x.isnan())
    assert torch.equal(combinations.surprise(lifts), combinations.surprises(lifts.views).amax(1))


def test_a_swap_counts_as_a_lift(combinations: Combinations) -> None:
    """If a swap is likelier than every lift, the odds of the swap are the view, and both columns are odd."""
    x = rows(400, 5)[:200]
    swapped = x[(x[:, 4] == 3) & (x[:, 5] == 6)]
    swapped[:, [4, 5]] = torch.tensor([6.0, 3.0])
    lifts = combinations.lifts(swapped, swapped.isnan())
    assert lifts.swaps is not None
    assert torch.equal(lifts.views[:, 1], torch.maximum(lifts.values.amax(1), lifts.swaps.amax((0, 1))))
    assert combinations.odd_values(lifts)[0][:, 4:].all()


def test_a_hidden_value_is_left_out_of_the_densities_alone(combinations: Combinations) -> None:
    """A value that is hidden from the densities, and is not missing, leaves the surprise of the pattern as it is."""
    x = rows(50, 3)[:20]
    hidden = x.clone()
    hidden[:, 1] = math.nan
    lifts = combinations.lifts(hidden, x.isnan())
    assert torch.equal(lifts.pattern, combinations.lifts(x, x.isnan()).pattern)
    assert lifts.values[:, 1].abs().max() < 1e-5


def test_every_change_of_the_buffers_is_followed(combinations: Combinations) -> None:
    """After a fit, a move or a change of a copy, the answers are those of the present buffers."""
    x = rows(100, 4)
    before = combinations.lifts(x, x.isnan())
    copied = copy.deepcopy(combinations)
    copied.classes.weights = torch.roll(copied.classes.weights, 1)
    assert not torch.equal(copied.lifts(x, x.isnan()).values, before.values)
    copied.fit(rows(3000, 9), CATEGORICAL)
    assert same(copied.lifts(x, x.isnan()), lifts_one_by_one(copied, x))
    copied.half().float()
    assert same(copied.lifts(x, x.isnan()), lifts_one_by_one(copied, x))
    assert same(combinations.lifts(x, x.isnan()), before)
