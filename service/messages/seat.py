"""A seat: one process's place on the board, with the process's counters.

Each value of a seat has one writer. The writer is the process that has taken the seat; only the count of rows that
left a front's queue is written by the engine (:meth:`Seat.taken`, :meth:`Seat.settle`).
"""

from collections.abc import MutableSequence
from typing import Self, cast

import numpy as np
import numpy.typing as npt

__all__ = [
    "CONNECTING",
    "CONNECTIONS",
    "IN_FLIGHT",
    "LIMIT",
    "PID",
    "PROCESS_VALUES",
    "SEAT_VALUES",
    "SUBMITTED",
    "TAKEN",
    "VALUE_BYTES",
    "Floats",
    "Seat",
    "cells",
]

Floats = npt.NDArray[np.float64]
VALUE_BYTES = 8
SEAT_VALUES = (1 << 20) // VALUE_BYTES
PID, SUBMITTED, TAKEN, IN_FLIGHT, STARTED, QUICK_ENDS, CONNECTING, CONNECTIONS, LIMIT, HEARTBEATS = range(10)
PROCESS, PROCESS_VALUES = 16, 32
"""Where a seat holds the figures of its process (memory, CPU seconds), and the most figures that it can hold."""
OWN = PROCESS + PROCESS_VALUES
"""How many values at the beginning of a seat have a fixed place; the counters follow."""
QUICK_SECONDS = 20.0
"""If the next process starts within this time in the same seat, the process before it counts as ended soon."""
FIRST_SECONDS, LONGEST_SECONDS = 0.5, 30.0


def cells(values: Floats) -> MutableSequence[float]:
    """View an array (n,) as single values. To add to one of them takes a third of the time that the array takes."""
    return cast("MutableSequence[float]", values.data)


class Seat:
    """One process's place on the board."""

    def __init__(self, number: int, values: Floats) -> None:
        self.number, self._values = number, values
        self._cells = cells(values)
        self._used = OWN

    @classmethod
    def of_no_board(cls) -> Self:
        """Make a seat in the memory of this process alone."""
        return cls(0, np.zeros(SEAT_VALUES))

    def again(self) -> Self:
        """Return a second view of this seat, in which :meth:`take` starts from the first place again."""
        return type(self)(self.number, self._values)

    def frozen(self) -> Self:
        """Copy the seat as it is now. The copy's values do not change when the process counts on."""
        return type(self)(self.number, self._values.copy())

    def add(self, other: "Seat") -> None:
        """Add the counters of another seat to this seat's; only for a seat that :meth:`of_no_board` made."""
        self._values[OWN:] += other._values[OWN:]  # noqa: SLF001 - also a Seat

    def take(self, shape: int | tuple[int, ...]) -> Floats:
        """Take the next free place for counters of a shape. The counters keep the values that an earlier process left.

        Every process that reads a seat must take the same places in the same order.

        Raises:
            MemoryError: the seat is full.
        """
        size = int(np.prod(shape))
        if self._used + size > len(self._values):
            raise MemoryError("the board has no room for so many counters")
        found = self._values[self._used : self._used + size].reshape(shape)
        self._used += size
        return found

    @property
    def pid(self) -> int:
        """The id of the process that took the seat last; 0 if no process ever did."""
        return int(self._values[PID])

    @property
    def process(self) -> Floats:
        """The figures of the process (PROCESS_VALUES,); see :mod:`service.telemetry.metrics.process_figures`."""
        return self._values[PROCESS:OWN]

    @property
    def in_flight(self) -> int:
        """How many requests the front is answering now. If the seat is free, how many its last process left open."""
        return int(self._cells[IN_FLIGHT])

    @property
    def connecting(self) -> bool:
        """Whether the front listens but has no connection for rows, so that the front cannot predict."""
        return self._cells[CONNECTING] != 0

    @connecting.setter
    def connecting(self, connecting: bool) -> None:
        self._cells[CONNECTING] = connecting

    @property
    def connections(self) -> int:
        """How many HTTP connections of the front are open. If the seat is free, how many its last process had."""
        return int(self._cells[CONNECTIONS])

    @connections.setter
    def connections(self, connections: int) -> None:
        self._cells[CONNECTIONS] = connections

    @property
    def heartbeats(self) -> int:
        """How often this seat's processes have said that they run. A process says so once a second while it serves."""
        return int(self._cells[HEARTBEATS])

    def beat(self) -> None:
        """Say that the process runs."""
        self._cells[HEARTBEATS] += 1

    @property
    def concurrency_limit(self) -> float:
        """How many predictions the front answers at one time. If the seat is free, the limit of its last process."""
        return self._cells[LIMIT]

    @concurrency_limit.setter
    def concurrency_limit(self, limit: float) -> None:
        self._cells[LIMIT] = limit

    def arrive(self) -> None:
        """Count a request that the front begins to answer; only the front calls it."""
        self._cells[IN_FLIGHT] += 1

    def leave(self) -> None:
        """Count a request that the front has answered; only the front calls it."""
        self._cells[IN_FLIGHT] -= 1

    @property
    def submitted(self) -> float:
        """Rows that the front has submitted; only the front adds to it."""
        return float(self._values[SUBMITTED])

    def submit(self, rows: int) -> None:
        """Count rows that the front submits."""
        self._cells[SUBMITTED] += rows

    def taken(self, rows: float) -> None:
        """Count rows that have left the queue; only the engine calls it."""
        self._cells[TAKEN] += rows

    def settle(self) -> None:
        """Count all rows of the front as taken. Only the engine calls this, while the front is not connected."""
        self._values[TAKEN] = self._values[SUBMITTED]

    def patience(self, now: float) -> float:
        """Note that a process starts in this seat, and return how many seconds the process must wait before it goes on.

        If processes in this seat keep ending soon after their start, the next process waits, longer each time. The
        cause may still be there, and each start takes seconds of processor time. ``now`` is in seconds of the
        monotonic clock.
        """
        soon = 0 < now - self._values[STARTED] < QUICK_SECONDS
        ends = self._values[QUICK_ENDS] + 1 if soon else 0
        self._values[STARTED], self._values[QUICK_ENDS] = now, ends
        return min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** (ends - 2)) if ends > 1 else 0.0
