"""The families of one seat: where they are in the seat, and whether another seat has the same layout."""

import logging
from typing import ClassVar

from service.messages.seat import Seat
from service.telemetry.metrics.families import Counters, Histograms, checksum

__all__ = ["SECONDS", "STAGES", "STAGE_SECONDS", "SeatCounts", "stage_histograms"]

LOG = logging.getLogger("guardhouse")
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, *SECONDS)
STAGES = ("decode", "queue", "input_guards", "model", "output_guards", "encode")


class SeatCounts:
    """Families that follow one another in a seat, after a checksum of their layout.

    A subclass makes its families in a fixed order, and calls :meth:`_begin` last.
    """

    what: ClassVar[str]

    def __init__(self, seat: Seat) -> None:
        self._mark = seat.take(1)

    @property
    def families(self) -> tuple[Counters | Histograms, ...]:
        """Every family, in the order of the places in the seat."""
        return tuple(each for each in vars(self).values() if isinstance(each, Counters | Histograms))

    def fits(self, seat: Seat) -> bool:
        """Return whether another seat holds the same families."""
        return bool(seat.again().take(1)[0] == self._mark[0])

    def _begin(self) -> None:
        """Continue from the seat's values; if its last process had other families, start from 0."""
        mine = checksum(self.families)
        if self._mark[0] not in (0.0, mine):
            LOG.warning("the %s counts other things than the last one did: its counters start at 0", self.what)
            self._mark[0] = 0.0
        if self._mark[0] == 0.0:
            for family in self.families:
                family.clear()
        self._mark[0] = mine


def stage_histograms(seat: Seat) -> Histograms:
    """Make the histogram of the stages. Fronts and the engine have series of all stages, and count only their own."""
    return Histograms(
        "stage_duration_seconds", "Time in a stage, once a request or once a batch.", STAGE_SECONDS, ["stage"],
        [(stage,) for stage in STAGES], take=seat.take,
    )  # fmt: skip
