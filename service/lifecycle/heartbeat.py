"""Heartbeats: each process that serves says so on the board every second; the supervisor kills a process that stops.

A process that is killed is noticed at once, since its sockets close. A process that hangs (stopped by a signal, waiting
for itself, or in a call that never returns) keeps its sockets and its clients. Only another process can end it.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from service.messages.board import Board
from service.messages.seat import Seat

__all__ = ["BEAT_SECONDS", "SILENT_BEATS", "Heartbeats", "keep_beating"]

LOG = logging.getLogger("guardhouse")
BEAT_SECONDS = 1.0
SILENT_BEATS = 30
"""A process that misses so many heartbeats is killed."""


async def keep_beating(seat: Seat) -> None:
    """Say once a second that this process's event loop runs, until the task is cancelled.

    Models compute in another thread, so a long batch delays no heartbeat.
    """
    while True:
        seat.beat()
        await asyncio.sleep(BEAT_SECONDS)


class Heard(NamedTuple):
    """What the supervisor last heard of a seat."""

    pid: int
    heartbeats: int
    silent: int
    """How many looks there were since the last heartbeat; -1 before the first heartbeat of the process."""


class Heartbeats:
    """Looks at every seat, and kills a process that was heard before and is not heard any more."""

    def __init__(self, board: Board, most: int = SILENT_BEATS) -> None:
        """Kill after ``most`` looks without a heartbeat."""
        self._board, self._most = board, most
        self._heard: dict[int, Heard] = {}

    def watch(self) -> None:
        """Look once a second in a thread, for as long as this process lives.

        Looks are counted, and not seconds: while the whole machine or this process stands still, nobody looks, and no
        process is blamed.
        """
        threading.Thread(target=self._watch, name="heartbeats", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            self.look()

    def look(self) -> None:
        """Look at every seat once."""
        for number in range(self._board.seats):
            if not self._board.is_held(number):
                self._heard.pop(number, None)
                continue
            seat = self._board.seat(number)
            before, pid, heartbeats = self._heard.get(number), seat.pid, seat.heartbeats
            if before is None or before.pid != pid:
                heard = Heard(pid, heartbeats, -1)
            elif before.heartbeats != heartbeats:
                heard = Heard(pid, heartbeats, 0)
            else:
                heard = before._replace(silent=before.silent + 1 if before.silent >= 0 else -1)
            self._heard[number] = heard
            if heard.silent == self._most:
                LOG.error("process %d has not run for %d s: it is killed, and started again", pid, heard.silent)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
