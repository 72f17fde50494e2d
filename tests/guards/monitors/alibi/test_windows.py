"""Windows of a stream, and columns prepared for tests that only take finite numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guards.monitors.alibi.windows import Windows, dense, separate

NAN = math.nan


@given(st.integers(1, 12), st.integers(1, 20), st.lists(st.integers(0, 25), max_size=12))
def test_windows_are_the_last_rows_at_every_so_many(size: int, every: int, batches: list[int]) -> None:
    """However rows come in batches, the windows are those that the whole stream is sliced into."""
    windows, taken, start = Windows(size, every), [], 0
    for count in batches:
        rows = np.arange(start, start + count, dtype=np.float32)[:, None]
        taken += [windows.waiting.popleft()[:, 0].tolist() for _ in windows.add(rows)]
        start += count
    ends = [end for end in range(every, start + 1, every) if end >= size]
    assert taken == [list(range(end - size, end)) for end in ends]
    assert (windows.rows, windows.dropped) == (start, 0)


def test_windows_that_nobody_takes_are_dropped_and_counted() -> None:
    """The newest wait, the older ones are counted, and what waits does not grow."""
    windows = Windows(2, 1)
    assert len(list(windows.add(np.arange(10, dtype=np.float32)[:, None]))) == 9
    assert [window[:, 0].tolist() for window in windows.waiting] == [[7, 8], [8, 9]]
    assert windows.dropped == 7


def test_dense_scales_numbers_and_spreads_categories() -> None:
    """Numbers have the reference's mean 0 and deviation 1; each category, unseen and missing have a column."""
    reference = np.array([[0, 10, 0], [2, 30, 1], [4, 50, 0]], np.float32)
    rows = np.array([[2, NAN, -1], [4, 30, NAN]], np.float32)
    encoded = dense(rows, reference, [0, 0, 2], gaps=True)
    assert encoded.shape == (2, 2 + 2 + 4)
    np.testing.assert_allclose(encoded[:, :2], [[0, 0], [np.sqrt(1.5), 0]], atol=2e-2)
    assert encoded[:, 2:].tolist() == [[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]]
    known = dense(reference, reference, [0, 0, 2], gaps=True)
    np.testing.assert_allclose(known[:, :2].mean(0), 0, atol=1e-6)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 3e38, NAN])
def test_what_is_out_of_all_proportion_stays_finite(value: float) -> None:
    """Strange numbers, in the rows or in the reference, become finite ones, far out but not without bound."""
    reference = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    reference[0, 0] = value if abs(value) > 1e39 else NAN
    reference[:, 2] = NAN
    rows = np.full((4, 3), value, np.float32)
    for encoded in (
        dense(rows, reference, [0, 0, 0], gaps=False),
        separate(rows, reference, [0] * 3, gaps=False, window=4),
    ):
        assert np.isfinite(encoded).all()
        assert np.abs(encoded).max() < 1e3


def test_rare_categories_are_put_together() -> None:
    """Categories of which a window is expected to hold fewer than five share a code, with what was never seen."""
    reference = np.repeat([0, 1, 2], [90, 8, 2])[:, None].astype(np.float32)
    rows = np.array([[0], [1], [2], [-1], [NAN]], np.float32)
    assert separate(rows, reference, [3], gaps=True, window=100)[:, 0].tolist() == [0, 1, 5, 5, 5]
    assert separate(rows, reference, [3], gaps=True, window=10)[:, 0].tolist() == [0, 5, 5, 5, 5]


def test_what_is_missing_of_a_number_is_a_column_of_its_own() -> None:
    """Gaps come after all columns, one for each number, and the number itself is the reference's median."""
    reference = np.array([[1, 0], [2, 0], [3, 0]], np.float32)
    rows = np.array([[NAN, 0], [3, 0]], np.float32)
    assert separate(rows, reference, [0, 1], gaps=True, window=100).tolist() == [[2, 0, 1], [3, 0, 0]]
