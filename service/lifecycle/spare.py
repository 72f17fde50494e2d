"""The spare: a second process of the engine, which has imported everything and waits for the first process to end."""

import contextlib
import importlib
import os
import signal
import threading
import time
from pathlib import Path

from service.lifecycle import supervisor
from service.lifecycle.process_names import SPARE, STARTING, WAITING, call_this_process
from service.messages.board import ENGINE, Board
from service.messages.seat import Seat

__all__ = ["Spare"]

SERVICE = "service.lifecycle.engine_service"
HEARTBEATS, LOOK_SECONDS = 5, 1.0
"""The spare imports after the engine has served for so many heartbeats: no server starts later because of its spare."""
NICENESS = 10
"""The priority of the thread that imports. An import takes two seconds of processor time, and predictions go first."""
OOM_SCORE = Path("/proc/self/oom_score_adj")
FIRST_TO_END = "1000"
"""If memory runs out, the kernel ends the spare before any other process."""


class Spare:
    """What this process does until it is the engine."""

    def __init__(self, board: Board) -> None:
        """Prepare to take the engine's seat on the board."""
        self._board = board
        self._taken = threading.Event()

    def wait(self) -> Seat:
        """Import what the engine needs, and return the engine's seat once the seat is free.

        The process ends instead if the server ends.
        """
        call_this_process(WAITING)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: _leave())
        supervisor.watch(self._supervisor_gone)
        score = _score(FIRST_TO_END)
        threading.Thread(target=self._prepare, name="spare", daemon=True).start()
        seat = self._board.take_seat("engine", wait=True)
        self._taken.set()
        if supervisor.server_ends():
            os._exit(0)
        if score is not None:
            _score(score)
        call_this_process(STARTING)
        return seat

    def _prepare(self) -> None:
        seat = self._board.seat(ENGINE)
        enough = seat.heartbeats + HEARTBEATS
        while seat.heartbeats < enough and not self._taken.is_set():
            time.sleep(LOOK_SECONDS)
        if not self._taken.is_set():
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
            importlib.import_module(SERVICE)
        if not self._taken.is_set():
            call_this_process(SPARE)

    def _supervisor_gone(self) -> None:
        if not self._taken.is_set():
            os._exit(0)


def _leave() -> None:
    """End: whichever process of a server gets a signal, the whole server stops."""
    supervisor.tell_to_stop()
    os._exit(0)


def _score(new: str) -> str | None:
    """Set this process's adjustment of the kernel's choice if memory runs out, and return the old one, if possible."""
    try:
        old = OOM_SCORE.read_text(encoding="ascii")
        OOM_SCORE.write_text(new, encoding="ascii")
    except OSError:  # a container may forbid this; the spare works without it
        return None
    return old
