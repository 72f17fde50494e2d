"""Does work once for many callers who ask for the same thing at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["SingleFlight"]

T = TypeVar("T")
SHARE = 0.25
"""The share of the time that the work may take, however often callers ask."""
MAX_PAUSE_SECONDS = 0.5


class SingleFlight(Generic[T]):
    """Runs work for many callers: at most one run goes on, and at most one waits for its turn.

    A caller joins only a run that has not begun. So what the caller gets shows everything that happened before the
    caller asked. Between two runs there is a pause, so that callers who ask again and again cannot take a whole core.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        """Run ``work`` when somebody asks. Only one event loop may ask."""
        self._work = work
        self._waiting: asyncio.Task[T] | None = None
        self._turn = asyncio.Lock()
        self._resume_at = 0.0

    async def __call__(self) -> T:
        """Join the run that waits, or let a run wait; return what the run returns, or raise what the run raises.

        A caller who gives up does not stop the run, because others may have joined the run.
        """
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._run())
            self._waiting.add_done_callback(_retrieve)
        return await asyncio.shield(self._waiting)

    async def _run(self) -> T:
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(max(0.0, self._resume_at - loop.time()))
            self._waiting = None
            began = loop.time()
            try:
                return await self._work()
            finally:
                took = loop.time() - began
                self._resume_at = began + min(took / SHARE, took + MAX_PAUSE_SECONDS)


def _retrieve(run: "asyncio.Task[T]") -> None:
    """Retrieve an exception that nobody waits for, so that asyncio does not log the exception."""
    run.cancelled() or run.exception()
