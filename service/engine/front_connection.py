"""The engine's connection to one front: the device's thread reads requests from it and writes answers to it."""

import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import orjson

from service.engine.job import Job, Piece
from service.messages.answer import Answer
from service.messages.requests import ANSWERED, DROPPED, FAILED, Groups, Records, Reply, Withdrawal, requests
from service.messages.seat import Seat
from service.messages.slots import Slots

__all__ = ["FrontConnection"]

Array = npt.NDArray[Any]
READ_BYTES = 1 << 18
Codes = Callable[[int, Groups], Mapping[str, Array]]
"""Turns the groups of a request, which has the given number of rows, into level codes by attribute."""


class FrontConnection:
    """A Unix socket, and the memory that the front shares with the engine. Only one thread uses a connection."""

    def __init__(self, connection: socket.socket, slots: Slots, seat: Seat, codes: Codes) -> None:
        self._connection, self._slots, self._seat, self._codes = connection, slots, seat, codes
        self._records = Records()
        self._outgoing: deque[bytes] = deque()
        self._replaced = False
        connection.setblocking(False)
        seat.settle()

    def fileno(self) -> int:
        """Give the socket's descriptor."""
        return self._connection.fileno()

    def receive(self) -> tuple[list[Job], dict[int, int]]:
        """Read what has arrived: new jobs, and the withdrawn jobs as a mapping from job number to number of rows.

        Raises:
            OSError: the front has closed the connection.
        """
        data = self._connection.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError
        jobs: dict[int, Job] = {}
        withdrawn: dict[int, int] = {}
        for asked in requests(self._records, data):
            if isinstance(asked, Withdrawal):
                withdrawn[asked.number] = asked.rows
            else:
                jobs[asked.number] = Job(
                    self,
                    asked.number,
                    asked.slots,
                    self._slots.rows(asked.slots),
                    self._codes(len(asked.slots), asked.groups),
                    asked.ids,
                    asked.deadline,
                    asked.submitted,
                    causes=asked.causes,
                    client=asked.client,
                    stages=[] if asked.stages else None,
                )
        return list(jobs.values()), withdrawn

    def replace(self) -> None:
        """Stop counting on the seat: a new front has it, although the end of this connection has not been read yet."""
        self._replaced = True

    def left_queue(self, rows: int) -> None:
        """Count rows that have left the queue."""
        if not self._replaced:
            self._seat.taken(rows)

    def write(self, pieces: Sequence[Piece], answer: Answer, start: int) -> None:
        """Write the answer to the rows of pieces into their slots."""
        slots = [slot for piece in pieces for slot in piece.slots]
        stop = start + len(slots)
        self._slots.write(slots, answer if stop - start == len(answer) else answer.rows(start, stop))

    def finish(self, job: Job) -> None:
        """Say that the whole answer to a job has been written."""
        self._outgoing.append(
            Reply(job.number, ANSWERED, orjson.dumps(list(map(list, job.stages))) if job.stages else b"").pack()
        )

    def fail(self, job: Job, kind: str) -> None:
        """Say that the model raised an exception of a kind on a job."""
        self._outgoing.append(Reply(job.number, FAILED, kind.encode()).pack())

    def drop(self, job: Job) -> None:
        """Say that a job was dropped: its deadline passed, or nobody waits for it."""
        self._outgoing.append(Reply(job.number, DROPPED).pack())

    def flush(self) -> bool:
        """Send as much as the socket takes, and return whether everything was sent.

        Raises:
            OSError: the front has closed the connection.
        """
        if not self._outgoing:
            return True
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._outgoing.append(data[sent:])
            return False
        return True

    def close(self) -> None:
        """Close the connection; none of its rows waits any more."""
        self._connection.close()
        if not self._replaced:
            self._seat.settle()
