"""The mixture of classes against a density that is summed up by hand."""

import math

import pytest
import torch

from guards.detectors.input_quality.latent_classes import LatentClasses
from guards.detectors.input_quality.value_cells import ValueCells

CATEGORICAL = torch.ones(3, dtype=torch.bool)


def cells_of(cells: ValueCells, x: torch.Tensor) -> torch.Tensor:
    """The cells (n, d) of rows (n, d)."""
    cell: torch.Tensor = cells(x.T.contiguous())
    return cell.T


def dependent(n: int = 3000) -> torch.Tensor:
    """Three columns of categories; the second repeats the first in nine rows of ten, the third is free."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(3, (n,), generator=generator)
    noise = torch.randint(3, (n,), generator=generator)
    second = torch.where(torch.rand(n, generator=generator) < 0.9, first, noise)
    return torch.stack([first, second, torch.randint(2, (n,), generator=generator)], dim=1).float()


def test_the_lift_is_that_of_the_mixture() -> None:
    """The lift equals log p(x_j) - log p(x_j | others), with all probabilities summed over the classes."""
    x = dependent()
    cells = ValueCells().fit(x, CATEGORICAL)
    classes = LatentClasses().fit(cells_of(cells, x), cells.absent)
    row = torch.tensor([[0.0, 2.0, 1.0]])
    cell = cells_of(cells, row)[0].tolist()
    weights, chances = classes.weights.exp(), classes.logs.exp()
    for column in range(3):
        others = math.prod(chances[cell[place]] for place in range(3) if place != column) * weights
        given = float((others * chances[cell[column]]).sum() / others.sum())
        alone = float((x[:, column] == row[0, column]).float().mean())
        assert classes(cells_of(cells, row))[0, column].item() == pytest.approx(math.log(alone / given), abs=2e-2)


def test_a_value_that_contradicts_the_others_has_a_large_lift() -> None:
    """Categories that go together have no lift, categories that contradict each other have, and a free one has none."""
    x = dependent()
    cells = ValueCells().fit(x, CATEGORICAL)
    classes = LatentClasses().fit(cells_of(cells, x), cells.absent)
    lift = classes(cells_of(cells, torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 1.0]])))
    assert (lift[0] < 0.1).all()
    assert (lift[1, :2] > 1.5).all()
    assert abs(lift[1, 2]) < 0.2


def test_a_missing_or_unseen_value_has_no_lift() -> None:
    """A value that is missing or unseen is left out: its lift is 0, and the others' lifts do not depend on its name."""
    x = dependent()
    cells = ValueCells().fit(x, CATEGORICAL)
    classes = LatentClasses().fit(cells_of(cells, x), cells.absent)
    lift = classes(cells_of(cells, torch.tensor([[0.0, math.nan, 1.0], [0.0, -1.0, 1.0]])))
    assert lift[:, 1].tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert torch.equal(lift[0], lift[1])


def test_few_rows_know_no_combination() -> None:
    """One class for less than two hundred rows: every lift is about 0."""
    x = dependent(150)
    cells = ValueCells().fit(x, CATEGORICAL)
    assert LatentClasses().fit(cells_of(cells, x), cells.absent)(cells_of(cells, x)).abs().max() < 0.01


def test_a_frequent_number_has_a_cell_of_its_own() -> None:
    """Cells hold about equally many rows, but a frequent value is alone in its cell, and rare categories share one."""
    generator = torch.Generator().manual_seed(1)
    hours = torch.where(torch.rand(5000, generator=generator) < 0.4, 40.0, 80 * torch.rand(5000, generator=generator))
    codes = torch.arange(5000) % 300
    cells = ValueCells().fit(torch.stack([hours, codes.float()], dim=1), torch.tensor([False, True]))
    cell = cells_of(cells, torch.tensor([[40.0, 0.0], [39.9, 298.0], [40.1, 299.0], [math.nan, math.nan]]))
    assert len(set(cell[:, 0].tolist())) == 4
    assert cell[1, 1] == cell[2, 1]
    assert cells_of(cells, torch.tensor([[40.0, 300.0]]))[0, 1] == cells.absent[1]
    assert cell[3].tolist() == cells.absent.tolist()
