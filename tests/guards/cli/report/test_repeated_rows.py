"""Rows that repeat, and equal rows with different labels."""

import torch

from guards.cli.report.measures.repeated_rows import repeated_rows

NAN = float("nan")
X = torch.tensor([[1, 2], [1, 2], [1, 2], [3, 4], [3, 4], [NAN, 0], [NAN, 0], [5, 6]])
Y = torch.tensor([0, 0, 1, 1, 1, 0, 1, 0])


def test_counts_worked_out_by_hand() -> None:
    """Rows 1 and 4 repeat a row; rows 0 to 2 and 5 to 6 conflict, and any model is wrong on one row of each group."""
    found = repeated_rows(X, Y)
    assert (found.rows, found.repeats, found.conflicting, found.unavoidable) == (8, 2, 5, 2)
    assert found.examples == ((0, 2), (5, 6))


def test_without_labels() -> None:
    """Without labels equal inputs are repeats, and nothing conflicts."""
    found = repeated_rows(X, None)
    assert (found.repeats, found.conflicting, found.examples) == (4, 0, ())


def test_images_and_values() -> None:
    """Rows of any shape are compared, and so are the values of a regression."""
    x = torch.zeros(3, 1, 2, 2)
    x[2] = 1
    found = repeated_rows(x, torch.tensor([0.5, 0.6, 0.5]))
    assert (found.repeats, found.conflicting, found.unavoidable) == (0, 2, 1)
