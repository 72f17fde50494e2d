"""The explanation desk: limits how often clients may ask, checks requests, and keeps the queue and the jobs.

The desk lives in the engine's process, on its event loop. The fronts ask it over the control socket.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from guards.bundle.bundle import Bundle
from guards.explanations.explain import Question, UnfitQuestionError, check
from service.closing import Step
from service.engine.control_server import Handler
from service.explain.answers import Answers, Count
from service.explain.job_runner import JobRunner
from service.explain.worker_client import ExplanationWorker
from service.messages.explanations import (
    ADMIT,
    EXPLAIN,
    EXPLAIN_LATER,
    GIVE_BACK,
    JOB_ANSWER,
    ExplainAnswer,
    ExplainRequest,
    Fault,
    Meter,
)
from service.messages.frames import Frame
from service.messages.refused import Refused
from service.processes import ChildProcess
from service.quotas.buckets import Rate, client_of
from service.quotas.keeper import Keeper
from service.store.store_client import Jobs

__all__ = ["ExplanationDesk"]

CLOSE_SECONDS = 5.0
WORKER = "service.explain.worker_main"


class ExplanationDesk:
    """Explains the rows of one bundle for all fronts."""

    def __init__(
        self,
        bundle: Bundle,
        count: Count,
        *,
        jobs: Jobs | None,
        busy: Callable[[], bool],
        keeper: Keeper,
    ) -> None:
        """Prepare. The first question starts the process that explains.

        Without a table of ``jobs``, nothing can be explained later. ``busy`` returns whether predictions are being
        made. ``keeper`` counts what clients use.
        """
        self._bundle, self._config, section = bundle, bundle.config, bundle.config.explain
        self._charging: set[asyncio.Future[float]] = set()
        self._keeper, self._rate = keeper, Rate(section.rate / 60, section.burst)
        process = ChildProcess(WORKER, bundle.id)
        self._worker = ExplanationWorker(process, section.max_queue, share=section.share, busy=busy)
        self._answers = Answers(bundle.id, section, self._worker, count, self._charge)
        self._jobs: JobRunner | None = None
        if jobs is not None:
            self._jobs = JobRunner(jobs, bundle.id, self._answer_job)

    def start(self) -> None:
        """Go on with the jobs that an earlier process left; called on the event loop."""
        if self._jobs is not None:
            self._jobs.start()

    def closing(self) -> list[Step]:
        """List what to close; it has to be closed before the store."""
        return [Step("the process that explains", CLOSE_SECONDS, self.close)]

    async def close(self) -> None:
        """Leave the jobs to the next process, and end the process that explains."""
        if self._jobs is not None:
            await self._jobs.close()
        await self._worker.close()

    def handlers(self) -> Mapping[str, Handler]:
        """Map the name of each question that a front may ask to the method that answers it."""
        return {
            ADMIT: self._admit,
            GIVE_BACK: self._give_back,
            EXPLAIN: self._explain,
            EXPLAIN_LATER: self._explain_later,
            JOB_ANSWER: self._job_answer,
        }

    async def _admit(self, head: dict[str, Any], _: bytes) -> Frame:
        """Take one request from a client's allowance; a client that has used up its seconds is refused.

        Raises:
            Refused: the client has used up its allowance or its seconds.
        """
        if (meter := head.get("meter")) is not None:
            key, *rate = meter
            if wait := await self._keeper.take(key, Rate(*rate), 0):
                detail = "this key has used up its seconds of explanation; come again later"
                raise Refused("quota", detail, retry_after=ceil(wait))
        if wait := await self._keeper.take(_bucket(head), self._rate):
            detail = "this client asked for too many explanations; come again later"
            raise Refused("explain_rate", detail, retry_after=ceil(wait))
        return {}, b""

    async def _give_back(self, head: dict[str, Any], _: bytes) -> Frame:
        """Give a client back what its last request took, because the request could not be read."""
        await self._keeper.take(_bucket(head), self._rate, -1, charge=True)
        return {}, b""

    async def _explain(self, head: dict[str, Any], rows: bytes) -> Frame:
        """Answer a request by its deadline."""
        request = ExplainRequest.of(head, rows)
        faults = self._faults(request)
        answer = (
            ExplainAnswer("unfit", faults=faults) if faults else await self._answers.answer(request, head["deadline"])
        )
        return answer.frame()

    async def _explain_later(self, head: dict[str, Any], rows: bytes) -> Frame:
        """Keep a request as a job, and give the job's id; a request with faults is answered at once.

        Raises:
            Refused: there is no store, the store is down, or too many jobs are kept.
        """
        request = ExplainRequest.of(head, rows)
        if faults := self._faults(request):
            return ExplainAnswer("unfit", faults=faults).frame()
        if self._jobs is None:
            raise Refused("no_store", "this server keeps no explanations: store.enabled is false")
        said, body = ExplainAnswer("waiting").frame()
        return {**said, "job": await self._jobs.add(request)}, body

    async def _job_answer(self, head: dict[str, Any], _: bytes) -> Frame:
        """Give the answer of a job.

        Raises:
            Refused: the store is down.
        """
        answer = ExplainAnswer("unknown") if self._jobs is None else await self._jobs.get(head["job"])
        return answer.frame()

    def _charge(self, meter: Meter, seconds: float) -> None:
        """Charge seconds of work to a meter."""
        key, *rate = meter
        charging = asyncio.ensure_future(self._keeper.take(key, Rate(*rate), seconds, charge=True))
        self._charging.add(charging)
        charging.add_done_callback(self._charging.discard)

    async def _answer_job(self, request: ExplainRequest) -> ExplainAnswer:
        return await self._answers.answer(request, time.monotonic() + self._config.explain.job_seconds)

    def _faults(self, request: ExplainRequest) -> list[Fault]:
        """List the faults of a request. Faults that depend on the values of the rows are found later."""
        try:
            check(Question(**request.question), self._config, self._bundle.schema, self._bundle.classes)
        except UnfitQuestionError as unfit:
            return [(("parameters", unfit.parameter), unfit.message)]
        rows = len(request.x)
        if request.picture and rows != 1:
            return [(("instances",), f"{rows} rows, but a picture shows one row")]
        return []


def _bucket(head: Mapping[str, Any]) -> str:
    """Name the bucket of a client: a principal, or an address."""
    return f"explain:{client_of(head['client'])}"
