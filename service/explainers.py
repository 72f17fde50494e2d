"""The server's side of the process that explains: one question at a time, a short line, and no leftovers."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from service.explain_process import LENGTH
from service.protocols.problem import deadline_passed, unavailable

__all__ = ["CrashedError", "Explainers", "Task"]

LOG = logging.getLogger("guardhouse")
GRACE_SECONDS = 2.0
"""How long after its deadline an explanation may go on before its process is killed."""
START_SECONDS = 300.0
IDLE_SECONDS = 600.0
RETRY_SECONDS = 5.0
LOOK_SECONDS, MAX_PAUSE_SECONDS = 0.05, 2.0
"""How often a pause looks whether predictions are still being served, and how long one is at most."""
Answer = tuple[dict[str, Any], bytes]


class CrashedError(Exception):
    """The process ended while it was explaining."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One question: what to ask, as the process takes it, and the rows as float32 bytes."""

    head: dict[str, Any]
    rows: bytes


class Explainers:
    """Starts the process when it is first needed, ends it when it has long been idle, and outlives its crashes.

    While ``busy`` says that predictions are being served, it pauses between questions, so as to take no more than
    ``share`` of the time: priorities settle who gets a core, but not caches, nor cores that a host lends to others.
    """

    def __init__(self, bundle_id: str, max_queue: int, *, share: float, busy: Callable[[], bool]) -> None:
        self._bundle_id, self._max_queue = bundle_id, max_queue
        self._share, self._busy = share, busy
        self._resume_at = 0.0
        self._turn = asyncio.Lock()
        self._inside = 0
        self._process: asyncio.subprocess.Process | None = None
        self._status: int | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def explain(self, task: Task, deadline: float) -> Answer:
        """Wait for a turn and ask; the head of the answer says how it went.

        Raises:
            Problem: too many wait, or the deadline passed.
            CrashedError: the process ended.
        """
        if self._inside >= self._max_queue:
            raise unavailable(
                "too many explanations are waiting", reason="explain_queue_full", retry_after=RETRY_SECONDS
            )
        self._inside += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            raise deadline_passed() from None
        finally:
            self._inside -= 1
        # Not to be broken off between question and answer, even if nobody waits for it any more.
        exchange = asyncio.create_task(self._exchange(task, deadline))
        self._tasks.add(exchange)
        exchange.add_done_callback(self._done)
        return await asyncio.shield(exchange)

    def _done(self, exchange: "asyncio.Task[Answer]") -> None:
        self._turn.release()
        self._tasks.discard(exchange)
        exchange.cancelled() or exchange.exception()

    async def close(self) -> None:
        """End the process."""
        for task in list(self._tasks):
            task.cancel()
        await self._end()

    async def _exchange(self, task: Task, deadline: float) -> Answer:
        loop = asyncio.get_running_loop()
        if self._idle is not None:
            self._idle.cancel()
        try:
            process = await self._started()
            await self._pause(deadline)
            started = loop.time()
            left = deadline - started
            if left <= 0:
                raise deadline_passed()
            async with asyncio.timeout(left + GRACE_SECONDS):
                await _send(process, {**task.head, "seconds": left}, task.rows)
                head, body = await _receive(process)
        except TimeoutError:
            LOG.warning("an explanation did not end at its deadline: its process is killed")
            await self._end()
            raise deadline_passed() from None
        except (asyncio.IncompleteReadError, ConnectionError) as crash:
            await self._end()
            status = "unknown" if self._status is None else self._status
            LOG.error("the process that explains ended by itself (status %s)", status)  # noqa: TRY400
            raise CrashedError from crash
        except asyncio.CancelledError:
            await self._end()
            raise
        took = loop.time() - started
        self._resume_at = started + min(took / self._share, took + MAX_PAUSE_SECONDS)
        self._idle = loop.call_later(IDLE_SECONDS, self._rest)
        return head, body

    async def _pause(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while self._busy() and (left := min(self._resume_at, deadline) - loop.time()) > 0:  # noqa: ASYNC110 - not told
            await asyncio.sleep(min(left, LOOK_SECONDS))

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        path = os.pathsep.join(filter(None, sys.path))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service.explain_process", self._bundle_id,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # a terminal's Ctrl-C must not end it before its answer
        )  # fmt: skip
        async with asyncio.timeout(START_SECONDS):
            await _receive(self._process)
        return self._process

    def _rest(self) -> None:
        task = asyncio.ensure_future(self._end())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if self._idle is not None:
            self._idle.cancel()
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        self._status = await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - or its pipes outlive the loop


async def _send(process: asyncio.subprocess.Process, head: dict[str, Any], body: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    encoded = orjson.dumps({**head, "size": len(body)})
    process.stdin.write(LENGTH.pack(len(encoded)) + encoded + body)
    await process.stdin.drain()


async def _receive(process: asyncio.subprocess.Process) -> Answer:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    head: dict[str, Any] = orjson.loads(await process.stdout.readexactly(length))
    return head, await process.stdout.readexactly(head["size"])
