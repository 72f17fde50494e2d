"""The ids of requests: the caller's own if it is valid, else one that the server makes."""

import os
import re
import threading
import time

__all__ = ["known_or_new", "new_id"]

REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
RANDOM_BYTES, READ_IDS = 10, 256


class Randomness:
    """Random bytes of the operating system, read for many ids at once: a system call costs more than an id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = b""

    def take(self) -> str:
        """Return the next bytes, which nobody gets a second time, in hexadecimal digits."""
        with self._lock:
            if not self._bytes:
                self._bytes = os.urandom(RANDOM_BYTES * READ_IDS)
            taken, self._bytes = self._bytes[:RANDOM_BYTES], self._bytes[RANDOM_BYTES:]
        return taken.hex()

    def forget(self) -> None:
        """Start anew: a forked process must not give the bytes of its parent."""
        self._lock, self._bytes = threading.Lock(), b""


RANDOMNESS = Randomness()
os.register_at_fork(after_in_child=RANDOMNESS.forget)


def known_or_new(request_id: bytes) -> str:
    """Return the caller's X-Request-ID if it is valid; otherwise make one."""
    return request_id.decode("ascii") if REQUEST_ID.fullmatch(request_id) else new_id()


def new_id() -> str:
    """Make an id that no server makes a second time: 12 hexadecimal digits of the time in ms, and 20 random ones."""
    # The time comes first, as in UUID version 7: a new id is put at the end of the store's index, next to the last one.
    return f"{time.time_ns() // 1_000_000:012x}{RANDOMNESS.take()}"
