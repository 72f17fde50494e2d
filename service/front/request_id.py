"""The ids of requests: the caller's id if that id is valid, otherwise a generated id."""

import os
import re
import time

__all__ = ["known_or_new", "new_id"]

REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
RANDOM_BYTES, READ_IDS = 10, 256


class Randomness:
    """Random bytes of the operating system, read for 256 ids at once because a system call costs more than an id."""

    def __init__(self) -> None:
        self._ready: list[str] = []

    def take(self) -> str:
        """Return the next bytes in hexadecimal digits; no caller gets the same bytes again."""
        while True:
            try:
                return self._ready.pop()  # one step of the interpreter, so two threads never get the same bytes
            except IndexError:
                digits = os.urandom(RANDOM_BYTES * READ_IDS).hex()
                self._ready += [digits[at : at + 2 * RANDOM_BYTES] for at in range(0, len(digits), 2 * RANDOM_BYTES)]

    def forget(self) -> None:
        """Discard the bytes: a forked process must not use the bytes of its parent."""
        self._ready = []


RANDOMNESS = Randomness()
os.register_at_fork(after_in_child=RANDOMNESS.forget)


def known_or_new(request_id: bytes | None) -> str:
    """Return the caller's X-Request-ID if it is valid; otherwise generate an id."""
    return request_id.decode("ascii") if request_id and REQUEST_ID.fullmatch(request_id) else new_id()


def new_id() -> str:
    """Generate a unique id: 12 hexadecimal digits of the time in ms, and 20 random hexadecimal digits."""
    # The time comes first, as in UUID version 7. So the store adds each new id at the end of its index.
    return f"{time.time_ns() // 1_000_000:012x}{RANDOMNESS.take()}"
