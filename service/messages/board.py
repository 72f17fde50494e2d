"""The board: one small file that all processes of a server map into memory, and that outlives each process.

Every process has a seat on the board, which holds the process's counters. If a process dies, the process that takes
its seat continues the counters from their last values. Every front can read the counters of all processes. Each value
has one writer, so values need no lock. Only taking a seat needs a lock: a lock of the file system, which ends with
its process.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from service.messages.seat import (
    CONNECTING,
    CONNECTIONS,
    IN_FLIGHT,
    LIMIT,
    PID,
    SEAT_VALUES,
    SUBMITTED,
    TAKEN,
    VALUE_BYTES,
    Floats,
    Seat,
)

__all__ = ["ENGINE", "Board"]

Role = Literal["engine", "front", "store"]
ENGINE = 0
"""The number of the engine's seat; the fronts have the seats after this seat, and the store's process has the last."""
HEAD_BYTES, SEAT_BYTES = 4096, SEAT_VALUES * VALUE_BYTES
DRAINING, BATCH_SECONDS, BATCH_ROWS, CHANGED = range(4)
LOCK = struct.Struct("hhqqi4x")
"""The system's ``struct flock`` on 64-bit Linux: type, whence, start, length, process."""


class Board:
    """The board's file as one process sees it."""

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            OSError: there is no such file, or it cannot be mapped.
        """
        # Not inheritable, and never closed while the process lives: closing any descriptor of a file ends its locks.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        size = os.fstat(self._descriptor).st_size
        self._memory = mmap.mmap(self._descriptor, size)
        self.seats = (size - HEAD_BYTES) // SEAT_BYTES
        # Every request reads a few of the values, one by one: a memoryview does so in a third of numpy's time.
        self._values = memoryview(self._memory)[: size - size % VALUE_BYTES].cast("d")
        first = HEAD_BYTES // VALUE_BYTES
        self._counts = [first + number * SEAT_BYTES // VALUE_BYTES for number in range(1, self.seats - 1)]
        self._head: Floats = np.ndarray((HEAD_BYTES // VALUE_BYTES,), np.float64, self._memory)
        self._seats: Floats = np.ndarray((self.seats, SEAT_VALUES), np.float64, self._memory, offset=HEAD_BYTES)
        self._own: set[int] = set()

    @staticmethod
    def make(path: Path, fronts: int) -> None:
        """Make the file for one engine, ``fronts`` fronts and the store's process, and reserve all of its disk space.

        Raises:
            OSError: the file system has no room.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Without reserved space, a full file system would kill a process that writes to the memory (SIGBUS).
            os.posix_fallocate(descriptor, 0, HEAD_BYTES + (fronts + 2) * SEAT_BYTES)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file. This frees every seat of this process; the values stay mapped."""
        os.close(self._descriptor)

    def take_seat(self, role: Role = "front", *, wait: bool = False) -> Seat:
        """Take the seat of a role; for a front, the first free one. The seat is free again when the process ends.

        With ``wait``, wait until the role's first seat is free.

        Raises:
            OSError: no seat is free.
        """
        numbers = {"engine": (ENGINE,), "front": range(1, self.seats - 1), "store": (self.seats - 1,)}
        for number in numbers[role]:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except BlockingIOError:
                continue
            self._own.add(number)
            self._seats[number, PID] = os.getpid()
            # A killed process leaves its values here.
            self._seats[number, [IN_FLIGHT, CONNECTING, CONNECTIONS, LIMIT]] = 0
            return self.seat(number)
        raise OSError("every seat of the board is taken: too many processes were started")

    def seat(self, number: int) -> Seat:
        """Return a seat to read it, whichever process has taken it."""
        return Seat(number, self._seats[number])

    def is_held(self, number: int) -> bool:
        """Return whether a living process has a seat: this process, or another process that holds the seat's lock."""
        if number in self._own:
            return True
        asked = LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        kind, *_ = LOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, asked))
        return bool(kind != fcntl.F_UNLCK)

    @property
    def in_flight(self) -> int:
        """How many requests all living fronts are answering now."""
        return sum(seat.in_flight for seat in self.fronts if self.is_held(seat.number))

    @property
    def connections(self) -> int:
        """How many HTTP connections of all living fronts are open."""
        return sum(seat.connections for seat in self.fronts if self.is_held(seat.number))

    @property
    def concurrency_limit(self) -> float:
        """How many predictions all living fronts together answer at one time."""
        return sum(seat.concurrency_limit for seat in self.fronts if self.is_held(seat.number))

    @property
    def connecting(self) -> bool:
        """Whether a living front listens but cannot predict yet, because it has no connection for rows."""
        return any(seat.connecting and self.is_held(seat.number) for seat in self.fronts)

    @property
    def fronts(self) -> Sequence[Seat]:
        """The seats of all fronts, taken or not."""
        return [self.seat(number) for number in range(1, self.seats - 1)]

    # The queue's length is the rows that the fronts have submitted minus the rows that the engine has taken.

    @property
    def queued_rows(self) -> int:
        """How many rows of all fronts wait for the device."""
        values, rows = self._values, 0.0
        for at in self._counts:
            rows += values[at + SUBMITTED] - values[at + TAKEN]
        return max(0, int(rows))

    @property
    def batch_seconds(self) -> float:
        """How long recent batches took, as a moving average in seconds."""
        return self._values[BATCH_SECONDS]

    @batch_seconds.setter
    def batch_seconds(self, seconds: float) -> None:
        self._head[BATCH_SECONDS] = seconds

    @property
    def batch_rows(self) -> int:
        """How many rows the engine puts into one batch; 0 before the model is loaded."""
        return int(self._values[BATCH_ROWS])

    @batch_rows.setter
    def batch_rows(self, rows: int) -> None:
        self._head[BATCH_ROWS] = rows

    @property
    def changed(self) -> bool:
        """Whether an engine was started with another bundle or config than the first engine of the server."""
        return self._values[CHANGED] != 0

    @changed.setter
    def changed(self, changed: bool) -> None:
        self._head[CHANGED] = changed

    @property
    def draining(self) -> bool:
        """Whether the server is draining. A front that starts later drains too."""
        return self._values[DRAINING] != 0

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._head[DRAINING] = draining
