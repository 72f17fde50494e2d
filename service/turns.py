"""Whose turn it is at the interpreter: the device's thread goes first, since everybody waits for it."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TURNS", "Turns", "shorten"]

MOST_SECONDS = 0.005
"""What the event loop waits at most: as long as Python lets one thread keep the interpreter by default."""
TURN_SECONDS = 0.0001


class Turns:
    """A turnstile beside Python's global interpreter lock.

    A batch is some fifty short operations, and each gives the interpreter away and has to ask for it again. Where the
    event loop has requests to read, every one of them waits for a whole request, and a tenth of a millisecond of work
    takes several. So the loop, before it starts on a piece of work, lets a batch's operations finish; while the device
    does something long by itself it is let through.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Go first, as the one thread that may."""
        self._take()
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def given(self) -> Iterator[None]:
        """Let the others through for a while, inside of :meth:`taken`."""
        self._lock.release()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        self._lock.acquire()
        self._since = time.perf_counter()

    def give_way(self) -> None:
        """Wait for the other's turn to end, but never long."""
        if self._lock.locked():
            left = self._since + MOST_SECONDS - time.perf_counter()
            if left > 0 and self._lock.acquire(timeout=left):
                self._lock.release()


TURNS = Turns()
"""The process's own, as its interpreter lock is."""


def shorten() -> None:
    """Let a thread that asks for the interpreter have it soon.

    By default the one that has it may go on for 5 ms, which is what the device would wait after each long operation.
    """
    sys.setswitchinterval(TURN_SECONDS)
