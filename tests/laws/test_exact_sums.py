"""Laws of sums that are kept as integers: exact in any order, for numbers of any magnitude."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from guards.statistics.exact_sums import ERRORS, SQUARES, ExactSum

VALUES = st.lists(st.floats(-1e37, 1e37).filter(lambda v: v == 0 or abs(v) > 1e-30), min_size=1, max_size=40)


def summed(sums: ExactSum, values: np.ndarray) -> np.ndarray:
    counts = np.zeros(sums.columns, np.int64)
    np.add.at(counts, *sums.terms(values)) if len(values) else None
    return counts


@given(values=VALUES, data=st.data())
def test_the_order_of_numbers_does_not_matter(values: list[float], data: st.DataObject) -> None:
    """In any order, and however split over replicas, the integers are the same."""
    whole = summed(ERRORS, np.array(values))
    order = np.array(data.draw(st.permutations(values)))
    cut = data.draw(st.integers(0, len(values)))
    assert (summed(ERRORS, order[:cut]) + summed(ERRORS, order[cut:])).tolist() == whole.tolist()


@given(values=VALUES)
def test_a_sum_is_as_exact_as_its_largest_numbers(values: list[float]) -> None:
    """The sum differs from the true sum by at most 4e-9 of the numbers' magnitudes; so does a sum of squares."""
    for sums, numbers in ((ERRORS, np.array(values)), (SQUARES, np.square(np.array(values)))):
        total = float(sums.total(summed(sums, numbers)))
        assert math.isclose(total, math.fsum(numbers), rel_tol=0, abs_tol=4e-9 * math.fsum(np.abs(numbers)))


def test_what_is_out_of_reach_counts_as_the_largest() -> None:
    """A number beyond the range counts as the largest in it, and one below the range as nearly nothing."""
    totals = [float(ERRORS.total(summed(ERRORS, np.array([value])))) for value in (1e300, -1e300, 1e-60)]
    assert totals == [2.0**128, -(2.0**128), 0.0]
