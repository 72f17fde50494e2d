"""Which values of a row an attack may change, and how far."""

import numpy as np
import pytest
import tiny_models
import torch

from guards.attacks.ball import Ball
from guards.attacks.space import Space
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.types import Mistake

NAN = float("nan")


def table() -> Space:
    """Two numbers, of which the first is declared to be at most 3, and a category."""
    columns = (
        Column(name="a", kind="numeric", maximum=3.0),
        Column(name="b", kind="numeric"),
        Column(name="c", kind="categorical", categories=("x", "y")),
    )
    rows = np.array([[0.0, 10.0, 0.0], [2.0, 30.0, 1.0]], dtype=np.float32)
    return Space.of(InputSchema(kind="tabular", shape=(3,), columns=columns), rows)


def test_a_category_never_changes_and_a_number_changes_in_standard_deviations() -> None:
    """A change of 1 is one standard deviation of the file's column, and the category keeps its index."""
    row = np.array([1.0, 20.0, 1.0], dtype=np.float32)
    changed = table().changed(row, np.array([[0.5, -1.0]]))
    assert changed.tolist() == [[1.5, 10.0, 1.0]]


def test_changes_stay_between_declared_bounds_and_the_values_of_the_file() -> None:
    """A declared bound is the bound of a column; without one the file's smallest and largest values are."""
    row = np.array([1.0, 20.0, 1.0], dtype=np.float32)
    assert table().changed(row, np.array([[99.0, 99.0], [-99.0, -99.0]])).tolist() == [[3, 30, 1], [0, 10, 1]]


def test_a_missing_value_stays_missing() -> None:
    """A missing value is no input of an attack."""
    row = np.array([NAN, 20.0, 0.0], dtype=np.float32)
    assert [len(end) for end in table().bounds(row)] == [1, 1]
    changed = table().changed(row, np.array([[1.0]]))
    assert np.isnan(changed[0, 0])
    assert changed[0, 1:].tolist() == [30.0, 0.0]


def test_a_row_beyond_the_bounds_may_stay_where_it_is() -> None:
    """A row that breaks a bound already keeps its value if the attack does not change it."""
    row = np.array([9.0, 20.0, 0.0], dtype=np.float32)
    assert table().changed(row, np.zeros((1, 2))).tolist() == [row.tolist()]


def test_a_table_of_categories_is_refused() -> None:
    """If no numeric column varies, there is nothing to attack."""
    columns = (Column(name="c", kind="categorical", categories=("x", "y")),)
    with pytest.raises(Mistake, match="attacks change no category"):
        Space.of(InputSchema(kind="tabular", shape=(1,), columns=columns), np.zeros((4, 1), dtype=np.float32))


def test_between_and_changed_are_inverse(kind: str) -> None:
    """The change that leads from one row to another leads there, if both are within the bounds."""
    rows = tiny_models.rows(kind, 40).x.numpy()
    space = Space.of(tiny_models.schema(kind), rows)
    whole = rows[~np.isnan(rows).reshape(40, -1).any(1)]
    whole = whole if kind != "tabular" else whole[whole[:, 3] == 1.0]
    reached = space.changed(whole[0], space.between(whole[0], whole[1:3]))
    assert np.allclose(reached, whole[1:3], atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "rms"])
def test_gradient_steps_stay_within_eps_and_bounds(kind: str, norm: str) -> None:
    """Steps of any length and random points stay within eps and within the bounds, and leave fixed values alone."""
    rows = tiny_models.rows(kind, 30).x.numpy()
    space = Space.of(tiny_models.schema(kind), rows)
    ball = Ball(space, rows, 0.3, norm, torch.device("cpu"))  # type: ignore[arg-type]
    generators = [np.random.default_rng(place) for place in range(30)]
    points = ball.random(generators)
    for length in (0.1, 5.0):
        points = ball.descend(points, torch.randn(points.shape, generator=torch.Generator().manual_seed(0)), length)
        moved = ball.rows(points).numpy()
        for row, new in zip(rows, moved, strict=True):
            change = space.between(row, new[None])[0]
            assert (np.abs(change).max() if norm == "linf" else np.sqrt((change**2).mean())) <= 0.3 + 1e-5
            assert np.allclose(space.changed(row, change[None])[0], new, atol=1e-5, equal_nan=True)
