"""Sums of numbers of any magnitude, kept as integers: exact in any order, and in the numbers' own unit.

A sum of floats depends on their order, and one in fixed steps needs a unit that fits them. Here every power of 256 has
a column of its own, which counts in steps fine enough for it. So sums of millionths and of millions add up alike, and
the sums of servers, and of models that were fitted apart, are simply added.
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
"""Bits that are kept of a number, at least: it is rounded by less than 4e-9 of itself. A column takes 1e8 numbers."""


@dataclass(frozen=True, slots=True)
class ExactSum:
    """A sum of numbers between 2^``lowest`` and 2^``highest`` by magnitude, in ``columns`` integers.

    Larger ones count as the largest; of smaller ones that many bits are lost.
    """

    lowest: int
    highest: int

    @property
    def columns(self) -> int:
        """How many integers a sum has."""
        return (self.highest - self.lowest) // WIDTH

    def terms(self, values: Floats) -> tuple[Integers, Integers]:
        """Say for values (n,), none of them NaN, to which column each is added, and how much: two arrays (n,).

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
        """Give the sums (...) of columns (..., columns)."""
        steps = self._steps(np.arange(self.columns))
        return np.asarray(np.ldexp(counts.astype(np.float64), steps).sum(-1), np.float64)

    def _steps(self, column: Integers) -> npt.NDArray[np.int32]:
        return (self.lowest + WIDTH * column - PRECISION).astype(np.int32)


ERRORS = ExactSum(-128, 128)
"""Errors of a model whose values are 32-bit floats."""
SQUARES = ExactSum(-256, 256)
