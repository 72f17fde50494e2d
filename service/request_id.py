"""The ids of requests: the caller's own if it is valid, else one that the server makes."""

import os
import re
import time

__all__ = ["known_or_new", "new_id"]

REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


def known_or_new(request_id: bytes) -> str:
    """Return the caller's X-Request-ID if it is valid; otherwise make one."""
    return request_id.decode("ascii") if REQUEST_ID.fullmatch(request_id) else new_id()


def new_id() -> str:
    """Make an id that no server makes a second time: 12 hexadecimal digits of the time in ms, and 20 random ones."""
    # The time comes first, as in UUID version 7: a new id is put at the end of the store's index, next to the last one.
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
