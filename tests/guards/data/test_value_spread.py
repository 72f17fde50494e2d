"""The scale of a file, compared with the scale of the reference."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from guards.data.value_spread import compare_spread, spread_of
from guards.notices import Notices
from guards.types import Rows

NORMAL = torch.randn((400, 3, 8), generator=torch.Generator().manual_seed(0))
UNIFORM = torch.rand((400, 3, 8), generator=torch.Generator().manual_seed(1))


def warned(reference: Tensor, x: Tensor, kind: str = "tensor") -> list[str]:
    notices = Notices()
    compare_spread(Rows(x, None), spread_of(reference), kind=kind, path=Path("r.npz"), notices=notices)
    assert notices.notes == []
    return notices.warnings


@pytest.mark.parametrize(
    ("reference", "x", "words"),
    [
        (UNIFORM, UNIFORM * 255, "the spread is 255 times as large; the file looks as if it was not scaled"),
        (UNIFORM * 255, UNIFORM, "the spread is 0.00392 times as large"),
        (NORMAL, (NORMAL - 0.45) / 0.225, "the spread is 4.44 times as large"),
        (NORMAL, UNIFORM * 2, "which reach below zero; the file looks as if it was not normalised"),
        (UNIFORM * 2, NORMAL, "which do not reach below zero; the file looks as if it was normalised twice"),
    ],
)
def test_another_scale_is_warned_of(reference: Tensor, x: Tensor, words: str) -> None:
    """A file that was not scaled as the reference was, or scaled twice, is warned of with both ranges."""
    (warning,) = warned(reference, x)
    assert words in warning
    assert warning.startswith("r.npz: 90 % of the values lie from ")


@pytest.mark.parametrize("x", [NORMAL, NORMAL + 0.5, NORMAL * 2, NORMAL[:30], NORMAL.abs() - 0.5, NORMAL[:29] * 255])
def test_honest_rows_are_not_warned_of(x: Tensor) -> None:
    """Rows that differ as rows do, or are too few to tell, get no warning."""
    assert warned(NORMAL, x) == []


def test_dark_pictures_are_not_warned_of() -> None:
    """Pictures have one scale: darker ones are honest, but not those that were divided by 255 twice."""
    assert warned(UNIFORM, UNIFORM / 5, "image") == []
    assert "the spread is 0.00392 times" in warned(UNIFORM, UNIFORM / 255, "image")[0]


def test_tables_and_constants_have_no_scale() -> None:
    """Each column of a table has its own scale, and a constant has none: there is no warning."""
    assert warned(UNIFORM[:, 0], UNIFORM[:, 0] * 255, "tabular") == []
    assert warned(torch.zeros(40, 2), UNIFORM[:, 0, :2]) == []


def test_the_spread_of_many_values_looks_at_every_place() -> None:
    """Of more than a million values some are looked at, and of every place of a row."""
    x = torch.zeros((1 << 16, 64))
    x[:, ::2] = 1
    assert spread_of(x) == (0, 1)
    places = torch.arange(64.0).expand(1 << 16, 64)
    low, high = spread_of(places) or (0, 0)
    assert (low, high) == pytest.approx((3, 60), abs=1)
