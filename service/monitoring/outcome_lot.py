"""Counts of outcomes that are too few to be shown: monitors learn outcomes in lots, and no outcome alone."""

from service.monitoring.sums import Counts, Tallies

__all__ = ["OutcomeLot"]


class OutcomeLot:
    """Keeps the monitors' counts of outcomes until they are of at least ``least`` outcomes."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._rows, self._counts = 0, dict[str, Counts]()

    def add(self, rows: int, tallies: Tallies) -> tuple[int, Tallies]:
        """Add outcomes; return the number and the counts of all kept outcomes if they are enough, otherwise nothing."""
        self._rows += rows
        for name, counts in tallies.items():
            self._counts[name] = self._counts[name] + counts if name in self._counts else counts
        if self._rows < self._least:
            return 0, {}
        lot = self._rows, self._counts
        self._rows, self._counts = 0, {}
        return lot
