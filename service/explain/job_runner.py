"""Runs jobs one after the other. After a restart it goes on with the jobs that were waiting or half done."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from service.messages.explanations import ExplainAnswer, ExplainRequest
from service.messages.refused import Refused
from service.store.database import StoreDownError
from service.store.job_table import LEASE_SECONDS, StoredJob
from service.store.store_client import Jobs

__all__ = ["JobRunner", "Work"]

P = ParamSpec("P")
T = TypeVar("T")
LOG = logging.getLogger("guardhouse")
Work = Callable[[ExplainRequest], Awaitable[ExplainAnswer]]
"""Answers a request, or raises ``Refused`` if it cannot be answered now."""
TABLE_THREADS = 4
"""Clients' questions wait for the table in these threads, and not in asyncio's, which metrics and reports need."""
POLL_SECONDS, DOWN_SECONDS = 2.0, 1.0
RETRY_SECONDS = 10.0


class JobRunner:
    """Runs the jobs of one bundle."""

    def __init__(self, table: Jobs, bundle: str, work: Work) -> None:
        self._table, self._bundle, self._work = table, bundle, work
        self._threads = ThreadPoolExecutor(TABLE_THREADS, thread_name_prefix="jobs")
        self._new = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._runner = asyncio.create_task(self._run())

    async def add(self, request: ExplainRequest) -> str:
        """Keep a request for later, and give the id of its job.

        Raises:
            Refused: too many jobs are kept, or the store is down.
        """
        try:
            name = await self._in_thread(self._table.add, request.pack(), request.owner, request.most_kept)
        except StoreDownError:
            raise Refused("store_down", "the store is down", retry_after=RETRY_SECONDS) from None
        if name is None:
            raise Refused("explain_queue_full", "too many explanations are kept", retry_after=RETRY_SECONDS)
        if not name:
            raise Refused("quota", "this key has too many explanations", retry_after=RETRY_SECONDS)
        self._new.set()
        return name

    async def get(self, name: str) -> ExplainAnswer:
        """Give the answer of a job; its status is ``waiting`` or ``unknown`` if there is none.

        Raises:
            Refused: the store is down.
        """
        try:
            return await self._in_thread(self._table.get, name)
        except StoreDownError:
            raise Refused("store_down", "the store is down", retry_after=RETRY_SECONDS) from None

    async def _in_thread(self, ask: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(ask, *arguments, **named))

    async def close(self) -> None:
        """Stop. A job that is half done is given back, so that the next process can take it."""
        if self._runner is None:
            return
        self._runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._runner

    async def _run(self) -> None:
        freed = False
        while True:
            self._new.clear()
            try:
                if not freed:
                    await self._in_thread(self._table.free)
                    freed = True
                job = await self._in_thread(self._table.take)
                if job is not None:
                    await self._do(job)
                    continue
            except StoreDownError:
                await asyncio.sleep(DOWN_SECONDS)
                continue
            except Exception as fault:  # noqa: BLE001 - the next job is run in any case
                LOG.error("a job failed: %s", type(fault).__name__)  # noqa: TRY400
                await asyncio.sleep(DOWN_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):  # if the database is not shared, nobody else adds jobs
                await asyncio.wait_for(self._new.wait(), POLL_SECONDS if self._table.shared else None)

    async def _do(self, job: StoredJob) -> None:
        holding = asyncio.create_task(self._hold(job))
        try:
            answer = await self._answer(job)
        except asyncio.CancelledError:
            await asyncio.shield(self._in_thread(self._table.leave, job))
            raise
        finally:
            holding.cancel()
        if answer is None:
            await self._in_thread(self._table.leave, job)
            await asyncio.sleep(DOWN_SECONDS)
        else:
            await self._in_thread(self._table.finish, job, answer)

    async def _answer(self, job: StoredJob) -> ExplainAnswer | None:
        """Answer a job; None if the job is to be tried again."""
        if job.hopeless:
            return ExplainAnswer("fault")
        if job.bundle != self._bundle:
            return ExplainAnswer("replaced")
        request = ExplainRequest.unpack(job.question)
        try:
            return await self._work(request)
        except Refused:
            return None
        except Exception as fault:  # noqa: BLE001 - the client gets an answer, and the log says what failed
            LOG.error("%s while answering request %s", type(fault).__name__, request.request_id)  # noqa: TRY400
            return ExplainAnswer("fault")

    async def _hold(self, job: StoredJob) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with contextlib.suppress(StoreDownError):
                await self._in_thread(self._table.hold, job)
