"""A front's counters and histograms: requests, their durations, and refused requests."""

from collections.abc import Mapping, Sequence
from typing import get_args

from service.messages.refused import Reason
from service.messages.seat import Seat
from service.telemetry.metrics.families import Counters, Histograms
from service.telemetry.metrics.seat_counts import SECONDS, SeatCounts, stage_histograms

__all__ = ["FrontMetrics"]

SHED = tuple(reason for reason in get_args(Reason) if reason not in ("no_store", "no_reset"))
"""The reasons that are counted. A server without a store refuses feedback for good, and not to protect others."""


class FrontMetrics(SeatCounts):
    """The counters of one front. Only the event loop counts."""

    what = "front"

    def __init__(self, routes: Mapping[str, Sequence[int]], seat: Seat | None = None) -> None:
        """Count in a front's seat, or, without a board, in this process's own memory.

        Args:
            routes: the possible codes of each route's template.
            seat: the front's seat.

        Raises:
            MemoryError: the seat has no room for so many series.
        """
        self._seat = seat = Seat.of_no_board() if seat is None else seat
        super().__init__(seat)
        self.requests = Counters(
            "requests",
            "Requests answered, by route template and code.",
            ["route", "code"],
            [(route, str(code)) for route, codes in routes.items() for code in codes],
            take=seat.take,
        )
        self.duration = Histograms(
            "request_duration_seconds", "From the first byte read to the last written.", SECONDS, ["route"],
            [(route,) for route in routes], take=seat.take,
        )  # fmt: skip
        self.stages = stage_histograms(seat)
        self.shed = Counters(
            "shed_requests", "Requests refused to protect the others.", ["reason"], [(reason,) for reason in SHED],
            take=seat.take,
        )  # fmt: skip
        self._begin()

    @property
    def inflight(self) -> int:
        """How many requests this front is answering now, without scrapes."""
        return self._seat.in_flight

    def arrive(self) -> None:
        """Count a request that begins."""
        self._seat.arrive()

    def leave(self) -> None:
        """Count a request that has ended."""
        self._seat.leave()

    def connected(self, connections: int) -> None:
        """Note how many HTTP connections are open."""
        self._seat.connections = connections
