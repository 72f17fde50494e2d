"""Closing several parts in order: if one part fails to close or hangs, the other parts are closed all the same."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

__all__ = ["Step", "close_all", "optional"]

LOG = logging.getLogger("guardhouse")


class Step(NamedTuple):
    """A part to close, with its name for the log and the seconds that closing may take."""

    name: str
    seconds: float
    close: Callable[[], Awaitable[object]]


async def close_all(*steps: Step) -> None:
    """Close every part in order. If a part fails or takes too long, log this and go on with the next part."""
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
    """Go on after a failure of the block, and log a warning: ``what`` is the sentence that says what is lost."""
    try:
        yield
    except Exception as failure:  # noqa: BLE001 - the block is optional, whatever fails in it
        LOG.warning("%s: %s: %s", what, type(failure).__name__, failure)
