"""The counters of the whole server, summed over its processes."""

from collections.abc import Mapping, Sequence
from typing import Self

from service.messages.board import ENGINE, Board
from service.messages.seat import Seat
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.families import Histograms
from service.telemetry.metrics.front import FrontMetrics

__all__ = ["ServerCounts", "ServerTotals"]


class ServerCounts:
    """The counters at one moment: the sum over all fronts, dead or alive, and the counters of the engine."""

    def __init__(self, front: FrontMetrics, engine: EngineMetrics) -> None:
        self.front, self.engine = front, engine
        self.requests, self.duration, self.shed = front.requests, front.duration, front.shed
        self.stages = _sum(front.stages, engine.stages)

    @classmethod
    def of(
        cls,
        board: Board,
        routes: Mapping[str, Sequence[int]],
        guards: Sequence[str],
        methods: Sequence[str],
        monitors: Sequence[str] = (),
    ) -> Self:
        """Read every seat.

        Args:
            board: the server's board.
            routes: the possible codes of each route's template, as every front counts them.
            guards: the names of all guards, as the engine counts them.
            methods: the names of the explanation methods that the config allows.
            monitors: the names of all monitors.
        """
        total = Seat.of_no_board()
        front, engine = FrontMetrics(routes, total), EngineMetrics(guards, methods, monitors=monitors)
        # A seat that no process has taken is empty. A server with another config left the seats with another layout.
        for seat in [seat for seat in (each.frozen() for each in board.fronts) if front.fits(seat)]:
            total.add(seat)
        seat = board.seat(ENGINE).frozen()
        return cls(front, EngineMetrics(guards, methods, seat, monitors=monitors) if engine.fits(seat) else engine)


class ServerTotals:
    """The counters at one moment, by name, for code that reads single counters."""

    def __init__(self, counts: ServerCounts) -> None:
        self._counts = counts

    def requests(self, route: str, code: str) -> float:
        """Count the requests that a route answered with a code; 0 for a route that the server does not have."""
        return self._counts.requests.total(route, code)

    def duration(self, route: str) -> tuple[int, float]:
        """Count the requests of a route, and sum their seconds; 0 for a route that the server does not have."""
        return self._counts.duration.total(route) if (route,) in self._counts.duration.index else (0, 0.0)

    def stage(self, stage: str) -> tuple[int, float]:
        """Count how often a stage ran, and sum its seconds.

        Raises:
            KeyError: there is no such stage.
        """
        return self._counts.stages.total(stage)

    def rows(self) -> int:
        """Count the rows that were answered."""
        return int(self._counts.engine.rows.values.sum())

    def last_batch(self) -> float:
        """Return when the last batch was answered, in seconds since 1970; 0 if there was none."""
        return self._counts.engine.last_batch


def _sum(one: Histograms, other: Histograms) -> Histograms:
    """Add two histograms of the same series."""
    both = Histograms(one.name, one.help, one.bounds, one.labels, one.index)
    both.counts[:] = one.counts + other.counts
    both.sums[:] = one.sums + other.sums
    return both
