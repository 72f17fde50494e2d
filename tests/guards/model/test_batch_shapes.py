"""Batches are padded to a few sizes, by repeating their last row."""

import numpy as np
import pytest

from guards.model.batch_shapes import bucket, filled


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (33, 48), (48, 48), (100, 100)])
def test_sizes_are_powers_of_two_up_to_the_most(rows: int, size: int) -> None:
    """A batch gets the next power of two, the most rows if that is less, and its own size if it is larger."""
    assert bucket(rows, 48) == size


def test_the_last_row_fills_a_batch() -> None:
    """A batch of fewer rows is filled with its last row, and a full batch is left as it is."""
    rows = np.arange(6.0).reshape(3, 2)
    assert filled(rows, 5).tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]
    assert filled(rows, 3) is rows
