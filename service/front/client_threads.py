"""The threads in which a front decodes and encodes large bodies and images, so that the event loop goes on.

Clients' work has these threads alone. The server's own work (metrics, the connection to the engine) has asyncio's
default threads, so no scrape and no probe waits behind clients.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from service.messages.refused import Refused

__all__ = ["CLIENT_THREADS", "ClientThreads", "NobodyWaitsError", "take_turns"]

T = TypeVar("T")
MOST_AT_WORK, MOST_BEGUN, MOST_WAITING = 4, 128, 512
"""How many requests are worked on at a time, how many take turns at that, and how many more may wait to begin."""
TURN_SECONDS = 0.002
"""How long a request may work while others wait for their turn; an image that was begun is finished."""
FULL = "too many large requests wait to be read; send the request again in a moment"


class NobodyWaitsError(Exception):
    """The client of a piece of work has left, or its deadline has passed."""


class Piece:
    """One piece of work; ``turn_began`` is in seconds of the monotonic clock."""

    __slots__ = ("left", "threads", "turn_began")

    def __init__(self, threads: "ClientThreads") -> None:
        self.threads, self.left, self.turn_began = threads, False, 0.0


class ClientThreads:
    """Threads of which few work at a time. Work of many parts takes turns, so no request holds up another for long."""

    def __init__(self, at_work: int, begun: int = MOST_BEGUN, waiting: int = MOST_WAITING) -> None:
        """Let ``at_work`` pieces work at a time, ``begun`` take turns, and ``waiting`` more wait to begin."""
        self._threads = ThreadPoolExecutor(begun, thread_name_prefix="clients")
        self._most, self._open = begun + waiting, 0
        self._free, self._queue = at_work, deque[threading.Lock]()
        self._lock = threading.Lock()

    def check_room(self) -> None:
        """Refuse more work if too much waits.

        Raises:
            Refused: the threads have as much work as they may.
        """
        if self._open >= self._most:
            raise Refused("queue_full", FULL)

    async def run(self, work: Callable[[], T]) -> T:
        """Do a piece of work in a thread; if the task that waits is cancelled, the work ends at its next turn."""
        piece, context = Piece(self), copy_context()
        with self._lock:
            self._open += 1
        future = self._threads.submit(self._do, piece, lambda: context.run(work))
        future.add_done_callback(self._done)
        try:
            return await asyncio.wrap_future(future)
        finally:
            piece.left = True
            del future  # an exception would hold this frame, and the frame the future that holds the exception

    def _do(self, piece: Piece, work: Callable[[], T]) -> T:
        self._take_turn(piece)
        HERE.piece = piece
        try:
            return work()
        finally:
            HERE.piece = None
            self._end_turn()

    def _done(self, _: Future[Any]) -> None:
        with self._lock:
            self._open -= 1

    def take_turns(self, piece: Piece) -> None:
        """Let others have their turn if they wait and this turn was long enough."""
        if time.monotonic() - piece.turn_began > TURN_SECONDS and self._queue:
            self._end_turn()
            self._take_turn(piece)

    def _take_turn(self, piece: Piece) -> None:
        gate = None
        with self._lock:
            if self._free:
                self._free -= 1
            else:
                gate = threading.Lock()
                gate.acquire()
                self._queue.append(gate)
        if gate is not None:
            gate.acquire()  # until a turn ends
        piece.turn_began = time.monotonic()

    def _end_turn(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._free += 1


class Here(threading.local):
    """What the current thread works on; None outside of clients' threads."""

    piece: Piece | None = None


HERE = Here()
CLIENT_THREADS = ClientThreads(min(MOST_AT_WORK, os.cpu_count() or 1))


def take_turns() -> None:
    """Say, between two parts of a piece of work, that others may have their turn; no effect outside of these threads.

    Raises:
        NobodyWaitsError: nobody waits for the work any more.
    """
    piece = HERE.piece
    if piece is None:
        return
    piece.threads.take_turns(piece)
    if piece.left:
        raise NobodyWaitsError
