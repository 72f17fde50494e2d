"""Waits in tests until something has happened, and fails if it does not happen in time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["until", "until_in_loop"]

T = TypeVar("T")


def until(happened: Callable[[], T], seconds: float = 180, pause: float = 0.01) -> T:
    """Ask every ``pause`` seconds until the answer is true, and return that answer.

    Raises:
        AssertionError: the answer was not true within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(pause)
    return answer


async def until_in_loop(happened: Callable[[], T], seconds: float = 180, pause: float = 0.001) -> T:
    """Do the same in an event loop, which runs on between two questions.

    Raises:
        AssertionError: the answer was not true within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        await asyncio.sleep(pause)
    return answer
