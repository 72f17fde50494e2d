"""The front's connection to the engine for rows: shared memory holds rows and answers, a socket names their slots."""

import array
import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import orjson

from service.messages.answer import Answer
from service.messages.refused import LOST, ModelFault, Refused
from service.messages.requests import ANSWERED, FAILED, Records, Request, Withdrawal, replies
from service.messages.seat import Seat
from service.messages.slots import ACCEPTED, Layout, Slots
from service.messages.stage import Stage

__all__ = ["RowChannel"]

Array = npt.NDArray[Any]
READ_BYTES = 1 << 18
CONNECT_SECONDS = 5.0
KEPT_BYTES, IDLE_SECONDS = 1 << 26, 5.0
"""How many bytes of slots are always kept, and how long memory beyond them is kept after a burst of rows."""


@dataclass(slots=True, eq=False)
class Pending:
    """A request whose slots the engine holds. If the caller stops waiting, ``answer`` is cancelled."""

    slots: list[int]
    answer: "asyncio.Future[Answer]"
    stages: list[Stage] | None


class RowChannel:
    """One connection to the engine for rows, used by one event loop."""

    def __init__(self, connection: socket.socket, slots: Slots, seat: Seat, on_loss: Callable[[], None]) -> None:
        """Listen for replies; ``on_loss`` is called once if the engine closes the connection."""
        self._connection, self._slots, self._seat, self._on_loss = connection, slots, seat, on_loss
        self._loop = asyncio.get_running_loop()
        self._free = list(range(len(slots) - 1, -1, -1))
        self._pending: dict[int, Pending] = {}
        self._number = 0
        self._records = Records()
        self._outgoing: list[bytes] = []
        self._rest = b""
        self._lost = False
        self._kept = KEPT_BYTES // slots.slot_bytes
        self._touched = 0
        """How many slots, from the first on, may have been written to since their memory was last given back."""
        self._idle: asyncio.TimerHandle | None = None
        connection.setblocking(False)
        self._loop.add_reader(connection, self._receive)

    @staticmethod
    def reach(path: str, layout: Layout, count: int, seat: Seat) -> tuple[socket.socket, Slots]:
        """Connect to the engine, and hand it memory for ``count`` slots; blocks until the engine accepts the slots.

        Raises:
            OSError: the engine cannot be reached or refuses the slots, or the system has no memory files.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptor = Slots.make(layout, count)
        try:
            slots = Slots(layout, descriptor)
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(path)
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            connection.sendmsg([bytes([seat.number])], passed)
            if connection.recv(1) != ACCEPTED:
                raise ConnectionRefusedError("the engine does not take the slots")  # noqa: TRY301
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(descriptor)
        return connection, slots

    @property
    def free(self) -> int:
        """The number of free slots."""
        return len(self._free)

    async def ask(
        self,
        x: Array,
        *,
        ids: Sequence[str],
        groups: Mapping[str, Sequence[str | None]],
        deadline: float,
        causes: bool,
        stages: list[Stage] | None,
        client: str = "",
    ) -> Answer:
        """Send rows (n, ...), and wait for the answer. The caller must check that n slots are free.

        Raises:
            Refused: the connection to the engine was lost.
            TimeoutError: the deadline passed while the rows waited.
            ModelFault: the model raised an exception.
        """
        rows = len(x)
        slots = self._free[-rows:]
        del self._free[-rows:]
        self._touched = max(self._touched, slots[0] + 1 if rows == 1 else max(slots) + 1)
        if rows == 1:
            self._slots.x[slots[0]] = x[0]
        else:
            slots.sort()
            self._slots.x[slots] = x
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        pending = Pending(slots, self._loop.create_future(), stages)
        self._pending[number] = pending
        self._seat.submit(rows)
        request = Request(
            number,
            tuple(slots),
            ids,
            deadline,
            time.perf_counter(),
            groups,
            causes=causes,
            stages=stages is not None,
            client=client,
        )
        self._send(request.pack())
        try:
            return await pending.answer
        except asyncio.CancelledError:
            if number in self._pending:  # the engine holds the slots until it replies
                self._seat.submit(-rows)  # at once, even while a long batch runs: these rows must not fill the queue
                self._send(Withdrawal(number, rows).pack())
            raise

    def close(self) -> None:
        """Close the connection, and refuse the requests that still wait."""
        if not self._lost:
            self._lost = True
            if self._idle is not None:
                self._idle.cancel()
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._connection.close()
            for pending in self._pending.values():
                if not pending.answer.done():
                    pending.answer.set_exception(Refused("engine_lost", LOST))
            self._pending.clear()

    def _lose(self) -> None:
        if not self._lost:
            self.close()
            self._on_loss()

    # Sending: at once if the engine has no other request, otherwise together with all records of this event loop turn

    def _send(self, record: bytes) -> None:
        self._outgoing.append(record)
        if self._rest or len(self._outgoing) > 1:
            return
        if len(self._pending) > 1:
            self._loop.call_soon(self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._lost:
            return
        data = b"".join((self._rest, *self._outgoing)) if self._rest or len(self._outgoing) > 1 else self._outgoing[0]
        self._outgoing.clear()
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose()
            return
        waited, self._rest = bool(self._rest), data[sent:]
        if self._rest and not waited:
            self._loop.add_writer(self._connection, self._flush)
        elif waited and not self._rest:
            self._loop.remove_writer(self._connection)

    # Receiving: every reply frees the slots of its request

    def _receive(self) -> None:
        try:
            data = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # if the peer was killed with unread data, recv raises ECONNRESET instead of returning b""
            data = b""
        if not data:
            self._lose()
            return
        for reply in replies(self._records, data):
            pending = self._pending.pop(reply.number)
            if not pending.answer.done():
                if reply.status == ANSWERED:
                    if reply.said and pending.stages is not None:
                        pending.stages.extend(Stage(*stage) for stage in orjson.loads(reply.said))
                    pending.answer.set_result(self._slots.read(pending.slots))
                elif reply.status == FAILED:
                    pending.answer.set_exception(ModelFault(reply.said.decode()))
                else:
                    pending.answer.set_exception(TimeoutError("the deadline passed while the rows waited"))
            self._free.extend(pending.slots)
        if self._touched > self._kept and not self._pending and self._idle is None:
            self._idle = self._loop.call_later(IDLE_SECONDS, self._give_back)

    def _give_back(self) -> None:
        """Return the memory that only a burst of rows needed to the system, if the engine holds no rows."""
        self._idle = None
        if self._lost or self._pending:
            return
        with suppress(OSError):  # the memory then stays in use
            self._slots.release(self._kept)
        self._touched = self._kept
        self._free.sort(reverse=True)  # the first slots are taken first, and their memory is kept
