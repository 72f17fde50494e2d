"""Strata: parts of the rows whose prediction sets are calibrated apart, by label or by group."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Strata"]


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """The stratum of each calibration row: ``codes`` (n,) int64 of ``names``; a code beyond the names is no stratum.

    Vovk, Lindsay, Nouretdinov & Gammerman 2003, "Mondrian confidence machine".
    """

    names: tuple[str, ...]
    codes: Tensor
    are_labels: bool
    """Whether the strata are the labels, which are not known when a row is answered."""

    def cut(self, values: Tensor) -> Iterator[Tensor]:
        """Give the values (n,) of each stratum in turn."""
        return (values[self.codes == code] for code in range(len(self.names)))
