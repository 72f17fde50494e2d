"""The desk's client of the process that explains: asks one question at a time, and has a short queue.

A process that runs past a deadline is killed.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from service.messages.frames import Frame
from service.messages.refused import Refused
from service.processes import ChildProcess, EndedError

__all__ = ["ExplanationWorker"]

LOG = logging.getLogger("guardhouse")
GRACE_SECONDS = 2.0
"""How long after its deadline an explanation may go on before its process is killed."""
IDLE_SECONDS = 600.0
RETRY_SECONDS = 5.0
LOOK_SECONDS, MAX_PAUSE_SECONDS = 0.05, 2.0
"""How often a pause checks whether predictions are still being made, and how long a pause is at most."""


Spent = Callable[[float], None]


class ExplanationWorker:
    """Starts the process at the first question, ends it after a long idle time, and starts it again after a crash.

    While ``busy`` returns that predictions are being made, the worker pauses between questions, so that explanations
    take at most ``share`` of the time. The process's low priority alone is not enough: it decides which process gets a
    core, but explanations still displace data in the caches and use cores that the host could lend to others.
    """

    def __init__(self, process: ChildProcess, max_queue: int, *, share: float, busy: Callable[[], bool]) -> None:
        self._process, self._max_queue = process, max_queue
        self._share, self._busy = share, busy
        self._resume_at = 0.0
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def explain(self, head: Mapping[str, Any], rows: bytes, deadline: float, spent: Spent | None = None) -> Frame:
        """Wait for a turn, then ask. ``deadline`` is by ``time.monotonic``; the answer's head has the status.

        ``spent`` is called with the seconds of work, whatever came of it.

        Raises:
            Refused: too many questions wait.
            TimeoutError: the deadline passed.
            EndedError: the process ended.
        """
        if self._waiting >= self._max_queue:
            raise Refused("explain_queue_full", "too many explanations are waiting", retry_after=RETRY_SECONDS)
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        finally:
            self._waiting -= 1
        # The exchange is never cancelled between question and answer, even if nobody waits for the answer any more.
        exchange = asyncio.create_task(self._exchange(head, rows, deadline, spent))
        self._tasks.add(exchange)
        exchange.add_done_callback(self._done)
        return await asyncio.shield(exchange)

    def _done(self, exchange: "asyncio.Task[Frame]") -> None:
        self._turn.release()
        self._tasks.discard(exchange)
        exchange.cancelled() or exchange.exception()

    async def close(self) -> None:
        """End the process."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end()

    async def _exchange(self, head: Mapping[str, Any], rows: bytes, deadline: float, spent: Spent | None) -> Frame:
        self._stop_idle()
        try:
            await self._process.start()
            try:
                return await self._asked(head, rows, deadline, spent)
            except EndedError as ended:
                # Somebody may have killed the process, so a new process gets the question. If the question itself ends
                # the process, the question ends the new process too, and is not asked again.
                LOG.error("the process that explains ended by itself (%s): a new process is asked", ended)  # noqa: TRY400
            await self._process.start()
            return await self._asked(head, rows, deadline, spent)
        except EndedError as ended:
            LOG.error("the process that explains ended by itself (%s)", ended)  # noqa: TRY400
            raise
        except asyncio.CancelledError:
            await self._process.end()
            raise
        finally:
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest)

    async def _asked(self, head: Mapping[str, Any], rows: bytes, deadline: float, spent: Spent | None) -> Frame:
        """Ask the running process, after a pause, and note how long the process took."""
        loop = asyncio.get_running_loop()
        await self._pause(deadline)
        started = loop.time()
        left = deadline - started
        if left <= 0:
            raise TimeoutError
        try:
            answer = await self._answered({**head, "seconds": left}, rows, left + GRACE_SECONDS)
        finally:
            took = loop.time() - started
            if spent is not None:
                spent(took)
        self._resume_at = started + min(took / self._share, took + MAX_PAUSE_SECONDS)
        return answer

    async def _answered(self, head: Mapping[str, Any], rows: bytes, seconds: float) -> Frame:
        try:
            async with asyncio.timeout(seconds):
                return await self._process.ask(head, rows)
        except TimeoutError:
            LOG.warning("an explanation did not end at its deadline: its process is killed")
            await self._process.end()
            raise

    async def _pause(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while self._busy() and (left := min(self._resume_at, deadline) - loop.time()) > 0:  # noqa: ASYNC110 - a poll
            await asyncio.sleep(min(left, LOOK_SECONDS))

    def _rest(self) -> None:
        task = asyncio.ensure_future(self._end())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    async def _end(self) -> None:
        self._stop_idle()
        await self._process.end()
