"""Runs the jobs one after the other, and goes on after a restart with those that were waiting or half done."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from guards.explain_section import ExplainConfig
from guards.explanation import Question
from service.database import StoreDownError
from service.http import Reply
from service.jobs import LEASE_SECONDS, Answered, Job, Jobs
from service.protocols.problem import Problem, fault_of_ours, unavailable
from service.store import Store

__all__ = ["JobRunner", "encode_question"]

LOG = logging.getLogger("guardhouse")
Work = Callable[[Mapping[str, Any], npt.NDArray[np.float32]], Awaitable[Reply]]
POLL_SECONDS, DOWN_SECONDS = 2.0, 1.0
RETRY_SECONDS = 10.0
PROBLEM = "application/problem+json"


def encode_question(
    question: Question, ids: Sequence[str], x: npt.NDArray[np.float32], *, picture: bool, request_id: str
) -> bytes:
    """Write down everything that it takes to answer later: a line of JSON, and the rows."""
    asked = {
        "question": {"method": question.method, "target": question.target, "steps": question.steps,
                     "top_k": question.top_k},
        "ids": list(ids), "picture": picture, "request_id": request_id, "shape": list(x.shape),
    }  # fmt: skip
    return orjson.dumps(asked) + b"\n" + x.tobytes()


class JobRunner:
    """The jobs of one server: ``work`` answers a question, or raises a Problem."""

    def __init__(self, store: Store, section: ExplainConfig, work: Work) -> None:
        """Begin, on the running event loop."""
        self._jobs = Jobs(store, most=section.max_jobs, keep_seconds=section.keep_seconds)
        self._bundle, self._work = store.edition.bundle, work
        self._new = asyncio.Event()
        self._runner = asyncio.create_task(self._run())

    async def add(self, question: bytes) -> str:
        """Keep a question for later, and give its id.

        Raises:
            Problem: there are too many, or the store is down.
        """
        try:
            name = await asyncio.to_thread(self._jobs.add, question)
        except StoreDownError:
            raise unavailable("the store is down", reason="store_down", retry_after=RETRY_SECONDS) from None
        if name is None:
            raise unavailable("too many explanations are kept", reason="explain_queue_full", retry_after=RETRY_SECONDS)
        self._new.set()
        return name

    async def get(self, name: str) -> Answered | None:
        """Give the answer of an id, or None where there is no such job.

        Raises:
            Problem: the store is down.
        """
        try:
            return await asyncio.to_thread(self._jobs.get, name)
        except StoreDownError:
            raise unavailable("the store is down", reason="store_down", retry_after=RETRY_SECONDS) from None

    async def close(self) -> None:
        """Stop; a job that is half done is left to the next server."""
        self._runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._runner

    async def _run(self) -> None:
        freed = False
        while True:
            self._new.clear()
            try:
                if not freed:
                    await asyncio.to_thread(self._jobs.free)
                    freed = True
                job = await asyncio.to_thread(self._jobs.take)
                if job is not None:
                    await self._do(job)
                    continue
            except StoreDownError:
                await asyncio.sleep(DOWN_SECONDS)
                continue
            except Exception as fault:  # noqa: BLE001 - the next job is not to suffer
                LOG.error("a job failed: %s", type(fault).__name__)  # noqa: TRY400
                await asyncio.sleep(DOWN_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):  # alone, only this server adds jobs: it need not look
                await asyncio.wait_for(self._new.wait(), POLL_SECONDS if self._jobs.shared else None)

    async def _do(self, job: Job) -> None:
        holding = asyncio.create_task(self._hold(job))
        line, _, rows = job.question.partition(b"\n")
        asked = orjson.loads(line)
        try:
            reply = await self._reply(job, asked, rows)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.to_thread(self._jobs.leave, job))
            raise
        finally:
            holding.cancel()
        if reply is None:
            await asyncio.to_thread(self._jobs.leave, job)
            await asyncio.sleep(DOWN_SECONDS)
        else:
            await asyncio.to_thread(self._jobs.finish, job, reply)

    async def _reply(self, job: Job, asked: Mapping[str, Any], rows: bytes) -> Answered | None:
        """Answer a job, be it with a problem; None where it is to be tried again."""
        problem: Problem
        if job.hopeless:
            problem = fault_of_ours()
        elif job.bundle != self._bundle:
            problem = unavailable("the model was replaced meanwhile; ask again", reason="loading")
        else:
            try:
                x = np.frombuffer(rows, dtype=np.float32).reshape(asked["shape"])
                reply = await self._work(asked, x)
                return Answered(int(reply.status), reply.content_type, reply.body)
            except Problem as told:
                if told.reason is not None:  # too busy now, which is no answer
                    return None
                problem = told
            except Exception as fault:  # noqa: BLE001 - told as any fault of ours
                LOG.error("%s while answering request %s", type(fault).__name__, asked["request_id"])  # noqa: TRY400
                problem = fault_of_ours()
        return Answered(int(problem.status), PROBLEM, problem.body(asked["request_id"]))

    async def _hold(self, job: Job) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with contextlib.suppress(StoreDownError):
                await asyncio.to_thread(self._jobs.hold, job)
