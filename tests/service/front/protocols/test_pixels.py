"""Pixels outside [0, 1]: which rows, and what they look like."""

import numpy as np
import pytest

from guards.input.schema import InputSchema
from service.front.protocols.pixels import LIKE_BYTES, MOST_ROWS, OUTSIDE, odd_pixels, sentence

SHAPE = (1, 2, 2)
IMAGES = InputSchema(kind="image", shape=SHAPE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, None), (1.0, None), (1.5, OUTSIDE), (255.0, LIKE_BYTES), (256.0, OUTSIDE), (-1e-6, OUTSIDE)],
)
def test_what_a_row_looks_like(value: float, expected: str | None) -> None:
    """A value up to 255 looks like a byte, one a little above 1 does not; the bounds themselves are inside."""
    x = np.full((2, *SHAPE), 0.5, dtype=np.float32)
    x[1, 0, 0, 1] = value
    assert odd_pixels(x, IMAGES) == ({} if expected is None else {1: expected})


def test_bytes_and_negative_numbers_are_no_bytes() -> None:
    """A row that is normalised around 0 does not look like bytes, whatever its largest value."""
    assert odd_pixels(np.array([-3.0, 3.0, 0.0, 9.0], dtype=np.float32).reshape(1, *SHAPE), IMAGES) == {0: OUTSIDE}


def test_numbers_of_other_inputs_have_no_bounds() -> None:
    """A tensor's numbers are its own."""
    assert not odd_pixels(np.full((1, 4), 200, dtype=np.float32), InputSchema(kind="tensor", shape=(4,)))


def test_the_sentence_names_some_rows() -> None:
    """Protocols without room beside a row name the first rows of each kind."""
    assert sentence({0: OUTSIDE, 2: LIKE_BYTES}) == f"rows 2: {LIKE_BYTES}; rows 0: {OUTSIDE}"
    assert sentence(dict.fromkeys(range(100), OUTSIDE)).startswith(
        f"rows {', '.join(map(str, range(MOST_ROWS)))}, ...:"
    )
