"""Sums of numbers of any magnitude, kept as integers, so that the sum is exact in any order.

A sum of floats depends on the order of the terms, and a sum in fixed steps needs a unit that suits the numbers. Here
every power of 256 has its own column of integers, whose steps suit numbers of that magnitude. So millionths and
millions can be summed alike, and the sums of several servers, or of separately fitted models, can be added.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ERRORS", "SQUARES", "ExactSum"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
WIDTH = 8
"""Powers of two in a column."""
PRECISION = 28
"""The least number of bits kept of a number: the relative error is below 4e-9. A column can sum 1e8 numbers."""


@dataclass(frozen=True, slots=True)
class ExactSum:
    """A sum of numbers between 2^``lowest`` and 2^``highest`` by magnitude, in ``columns`` integers.

    A larger number counts as the largest. A smaller number keeps fewer bits.
    """

    lowest: int
    highest: int

    @property
    def columns(self) -> int:
        """How many integers a sum has."""
        return (self.highest - self.lowest) // WIDTH

    def terms(self, values: Floats) -> tuple[Integers, Integers]:
        """Give for each of the values (n,), which are not NaN, its column and the amount to add there: two arrays (n,).

        >>> column, amount = ERRORS.terms(np.array([0.5, -3.0]))
        >>> float(ERRORS.total(np.bincount(column, amount, ERRORS.columns).astype(np.int64)))
        -2.5
        """
        edge = np.nextafter(2.0**self.highest, 0.0)
        values = np.clip(values, -edge, edge)
        exponent = np.frexp(values)[1].astype(np.int64) - 1
        column = np.clip((exponent - self.lowest) // WIDTH, 0, self.columns - 1)
        return column, np.rint(np.ldexp(values, -self._steps(column))).astype(np.int64)

    def total(self, counts: Integers) -> Floats:
        """Turn the integers (..., columns) of sums into the sums (...) themselves."""
        steps = self._steps(np.arange(self.columns))
        return np.asarray(np.ldexp(counts.astype(np.float64), steps).sum(-1), np.float64)

    def _steps(self, column: Integers) -> npt.NDArray[np.int32]:
        return (self.lowest + WIDTH * column - PRECISION).astype(np.int32)


ERRORS = ExactSum(-128, 128)
"""Sums of the errors of a model whose values are 32-bit floats; ``SQUARES`` is for the squares of these errors."""
SQUARES = ExactSum(-256, 256)
