"""Closing many things, one after the other: none that fails, or hangs, keeps the others from being closed."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

__all__ = ["Step", "close_all", "optional"]

LOG = logging.getLogger("guardhouse")


class Step(NamedTuple):
    """Something to close, and how long that may take."""

    name: str
    seconds: float
    close: Callable[[], Awaitable[object]]


async def close_all(*steps: Step) -> None:
    """Close everything in order; what fails, or takes too long, is logged and left behind."""
    for step in steps:
        try:
            async with asyncio.timeout(step.seconds):
                await step.close()
        except TimeoutError:
            LOG.error("%s could not be closed within %g s, and is left as it is", step.name, step.seconds)  # noqa: TRY400
        except Exception as failure:
            LOG.exception("%s could not be closed", step.name, exc_info=failure)


@contextlib.contextmanager
def optional(what: str) -> Iterator[None]:
    """Go on after a failure, which costs ``what``, and a line of the log that says so."""
    try:
        yield
    except Exception as failure:  # noqa: BLE001 - whatever it is, what follows matters more
        LOG.warning("%s: %s: %s", what, type(failure).__name__, failure)
