"""Rows of a search: two halves without an equal row in both."""

import torch

from guards.cli.tuning.tuning_rows import halves
from guards.types import Rows


def test_halves_share_no_row() -> None:
    """Both halves together are all rows, of about the same number, and equal rows are in one half."""
    x = torch.randint(0, 40, (200, 1), generator=torch.Generator().manual_seed(0)).float()
    first, second = halves(Rows(x, groups={"g": tuple(map(str, x[:, 0].tolist()))}), seed=3)
    assert sorted([*first.x[:, 0].tolist(), *second.x[:, 0].tolist()]) == sorted(x[:, 0].tolist())
    assert not set(first.x[:, 0].tolist()) & set(second.x[:, 0].tolist())
    assert abs(len(first) - len(second)) < 20
    assert first.groups["g"] == tuple(map(str, first.x[:, 0].tolist()))


def test_a_seed_gives_one_split() -> None:
    """The same seed gives the same halves in the same order, another seed other halves."""
    rows = Rows(torch.arange(50.0)[:, None])
    one, two, three = (halves(rows, seed)[0].x[:, 0].tolist() for seed in (0, 0, 1))
    assert one == two
    assert one != three
