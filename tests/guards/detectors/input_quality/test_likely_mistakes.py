"""Which mistake a strange value looks like."""

import pytest
import torch

from guards.detectors.input_quality.familiar_values import FamiliarValues
from guards.detectors.input_quality.likely_mistakes import LikelyMistakes
from guards.input.column import Column

COLUMNS = (
    Column(name="height", kind="numeric"),
    Column(name="warmth", kind="numeric"),
    Column(name="home", kind="categorical", categories=("no", "yes")),
    Column(name="away", kind="categorical", categories=("no", "yes")),
)


def reference() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    height = (1700 + 90 * torch.randn(2000, generator=generator)).round()
    warmth = 10 * (20 + 3 * torch.randn(2000, generator=generator)).round() / 10
    return torch.stack([height, warmth, torch.zeros(2000), torch.arange(2000) % 2], dim=1)


def looks(row: list[float], strange: list[bool]) -> list[str]:
    """The mistakes that a row looks like."""
    x = reference()
    mistakes = LikelyMistakes().fit(x, COLUMNS)
    familiar = FamiliarValues().fit(x, torch.tensor([False, False, True, True]))
    found = mistakes(torch.tensor([row]), torch.tensor([strange]), torch.tensor([strange]), familiar)[0]
    return [name for name, one in zip(mistakes.names, found.tolist(), strict=True) if one]


@pytest.mark.parametrize(
    ("height", "named"),
    [
        (1700 * 1000, "height: looks 1000 times too large"),
        (1.7, "height: looks 1000 times too small"),
        (1700 * 100, "height: looks 100 times too large"),
        (17, "height: looks 100 times too small"),
        (1700 * 2.54, "height: looks like centimetres, not inches"),
        (1700 / 2.54, "height: looks like inches, not centimetres"),
        (1700 * 0.3048, "height: looks like metres, not feet"),
        (1700 / 0.3048, "height: looks like feet, not metres"),
        (1700 * 0.4536, "height: looks like kilograms, not pounds"),
        (1700 / 0.4536, "height: looks like pounds, not kilograms"),
    ],
)
def test_units_by_hand(height: float, named: str) -> None:
    """A strange number that another unit would make ordinary looks like that unit."""
    assert looks([height, 20.0, 0.0, 1.0], [True, False, False, False]) == [named]


@pytest.mark.parametrize(
    ("warmth", "named"),
    [(68.0, "warmth: looks like Fahrenheit, not Celsius"), (-6.666667, "warmth: looks like Celsius, not Fahrenheit")],
)
def test_degrees_by_hand(warmth: float, named: str) -> None:
    """Degrees are told apart, though they differ by more than a factor."""
    assert named in looks([1700.0, warmth, 0.0, 1.0], [False, True, False, False])


def test_swapped_numbers() -> None:
    """Two strange numbers of which each is ordinary in the other's column look swapped."""
    assert looks([20.0, 1700.0, 0.0, 1.0], [True, True, False, False])[-1] == "height and warmth look swapped"


def test_a_number_that_is_odd_alone_is_not_swapped() -> None:
    """A strange number that another column would take is no swap if the other column's number is ordinary."""
    x = reference()
    x = torch.cat([x, x[:, :1] * 1.1 - 100], dim=1)
    columns = (*COLUMNS, Column(name="reach", kind="numeric"))
    mistakes = LikelyMistakes().fit(x, columns)
    familiar = FamiliarValues().fit(x, torch.tensor([False, False, True, True, False]))
    low, middle = x[:, 0].quantile(0.002), x[:, 4].quantile(0.3)
    rows = torch.tensor([[float(low), 20.0, 0.0, 1.0, float(middle)]])
    strange = torch.tensor([[True, False, False, False, False]])
    found = mistakes(rows, strange, strange, familiar)[0]
    assert not [name for name, one in zip(mistakes.names, found.tolist(), strict=True) if one and "swapped" in name]


def test_swapped_categories() -> None:
    """Columns of the same categories may be swapped, too, if one of the values is strange."""
    assert looks([1700.0, 20.0, 1.0, 0.0], [False, False, True, False]) == ["home and away look swapped"]


def test_nothing_is_suggested_without_need_or_reason() -> None:
    """A row without strange values, and a value that no mistake explains, look like no mistake."""
    assert looks([1700.0, 68.0, 0.0, 1.0], [False] * 4) == []
    assert looks([12345.0, 20.0, 0.0, 1.0], [True, False, False, False]) == []


def test_a_wide_table_compares_neighbours() -> None:
    """If more than 500 pairs of columns could be swapped, only columns that stand side by side are compared."""
    columns = tuple(Column(name=f"x{place}", kind="numeric") for place in range(40))
    names = LikelyMistakes().fit(torch.randn(50, 40), columns).names
    assert [name for name in names if "swapped" in name] == [f"x{a} and x{a + 1} look swapped" for a in range(39)]


def test_a_swap_that_explains_two_strange_values_is_the_only_suggestion() -> None:
    """If both columns of a swap are strange, no unit is suggested for them; if one is, its unit is suggested, too."""
    row = [17.0, 1700.0, 0.0, 1.0]
    swapped = "height and warmth look swapped"
    assert looks(row, [True, True, False, False]) == [swapped]
    assert looks(row, [True, False, False, False]) == ["height: looks 100 times too small", swapped]


def test_rows_without_strange_values_are_skipped_on_the_host() -> None:
    """Inference on the CPU, which skips rows without strange values, marks what the computation of all rows marks."""
    x = reference()
    mistakes = LikelyMistakes().fit(x, COLUMNS)
    familiar = FamiliarValues().fit(x, torch.tensor([False, False, True, True]))
    rows = x[:6].clone()
    rows[1, 0], rows[4, 1] = 1.7, 68.0
    strange = rows != x[:6]
    every = mistakes(rows, strange, strange, familiar)
    with torch.inference_mode():
        assert torch.equal(mistakes(rows, strange, strange, familiar), every)
        assert not mistakes(rows[:1], strange[:1], strange[:1], familiar).any()
    assert every.any(1).tolist() == [False, True, False, False, True, False]
