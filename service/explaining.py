"""What ``:explain`` answers: at once or later, as numbers or as a picture, from the process that explains."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from typing import Any

import orjson

from guards.config import Config
from guards.explanation import Question, UnfitQuestionError, check, methods
from guards.schema import Floats, InputSchema
from service.allowance import Allowance
from service.exchange import CURRENT
from service.explainers import CrashedError, Explainers, Task
from service.handlers import GET_CODES, READY_CODES, read
from service.http import Call, Reply, Route
from service.job_runner import JobRunner, encode_question
from service.limits import POST_CODES
from service.metrics import Metrics
from service.preferences import PNG, may_wait, wants_picture
from service.protocols import v1
from service.protocols.problem import Problem, deadline_passed, fault_of_ours, unavailable, unprocessable
from service.recent import Recent
from service.runtime import Runtime
from service.shared_allowance import SharedAllowance, connect

__all__ = ["EXPLAIN_CODES", "MOST_VALUES", "Explaining"]

EXPLAIN_CODES = (*POST_CODES, 202, 429)
RESULT_CODES = (*READY_CODES, 202, 404, 422)
PARAMETERS: Mapping[str, type | tuple[type, ...]] = {"method": str, "target": str, "steps": int, "top_k": int}
MOST_VALUES = 2**18
"""How many numbers an answer to several rows may have: some megabytes of JSON."""
FOLDER = "/v1/explanations"
WITHHELD = (
    "the action on this row is {}, so it was not answered, and there is nothing to explain: `:predict` with "
    "`parameters.detail` says which guards did it and why; `explain.rejected: true` in the config allows it"
)


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """An answer before the rows' ids are in it: a JSON object for each row, or one picture."""

    pieces: tuple[bytes, ...]

    @property
    def nbytes(self) -> int:
        """The size."""
        return sum(map(len, self.pieces))


class Explaining:
    """The routes of explanations of one model."""

    def __init__(
        self,
        config: Config,
        schema: InputSchema,
        *,
        runtime: Callable[[], Runtime | None],
        trouble: Callable[[], str | None],
    ) -> None:
        self.config, self._schema, self._runtime, self._trouble = config, schema, runtime, trouble
        self.metrics: Metrics
        section = config.explain
        self._allowance = Allowance(section.rate, section.burst)
        self._shared: SharedAllowance | None = None
        self._recent: Recent[Pieces] = Recent(section.cache_bytes)
        self._explainers: Explainers | None = None
        self._runner: JobRunner | None = None

    def routes(self) -> dict[str, Route]:
        """Map every path to its route."""
        model, template = f"/v1/models/{self.config.name}", "/v1/models/{name}"
        return {
            f"{model}:explain": Route(f"{template}:explain", {"POST": self.explain}, EXPLAIN_CODES),
            f"{model}/explainers": Route(f"{template}/explainers", {"GET": self.explainers}, GET_CODES),
            f"{FOLDER}/*": Route(f"{FOLDER}/{{id}}", {"GET": self.result}, RESULT_CODES),
        }

    def start(self, runtime: Runtime, redis_url: str | None = None) -> None:
        """Go on with the jobs that are left; the process itself is started by the first question.

        Where there is a Redis, clients are counted there, over all replicas.
        """
        if redis_url is not None:
            self._shared = SharedAllowance(
                connect(redis_url),
                self.config.name,
                self.config.explain.rate,
                self.config.explain.burst,
                on_loss=self.metrics.redis_errors.add,
            )
        section = self.config.explain
        self._explainers = Explainers(
            runtime.bundle.id, section.max_queue, share=section.share, busy=lambda: runtime.busy
        )
        store = None if runtime.ledger is None else runtime.ledger.store
        if store is not None:
            self._runner = JobRunner(store, self.config.explain, self._answer_job)

    async def close(self) -> None:
        """Leave the jobs as they are, and end the process."""
        if self._runner is not None:
            await self._runner.close()
        if self._explainers is not None:
            await self._explainers.close()
        if self._shared is not None:
            await self._shared.close()

    async def explainers(self, _: Call) -> Reply:
        """List the methods that a request may choose."""
        return Reply(orjson.dumps({"explainers": methods(self.config, self._schema)}))

    async def explain(self, call: Call) -> Reply:
        """Explain the rows of a body."""
        runtime = self._loaded()
        await self._admit(call.client)
        request = await read(call, runtime, PARAMETERS)
        if (exchange := CURRENT.get()) is not None:
            exchange.rows = len(request.x)
        question = Question(**request.parameters)
        self._check(request, question, runtime)
        picture = wants_picture(call.headers)
        if picture and len(request.x) != 1:
            raise unprocessable([(("instances",), f"{len(request.x)} rows, where a picture is of one")])
        if self._runner is not None and may_wait(call.headers):
            asked = encode_question(question, request.ids, request.x, picture=picture, request_id=call.request_id)
            location = f"{FOLDER}/{await self._runner.add(asked)}"
            headers = {"Location": location, "Retry-After": "1", "Preference-Applied": "respond-async"}
            return Reply(orjson.dumps({"state": "waiting"}), HTTPStatus.ACCEPTED, headers=headers)
        return await self._answer(question, request.ids, request.x, picture=picture, deadline=call.deadline)

    async def result(self, call: Call) -> Reply:
        """Give the answer of a job, or say that it is not there yet."""
        self._loaded()
        found = None if self._runner is None else await self._runner.get(call.path.rpartition("/")[2])
        if found is None:
            raise Problem(HTTPStatus.NOT_FOUND, "there is no explanation of that id, or no more")
        if found.status is None:
            return Reply(orjson.dumps({"state": "waiting"}), HTTPStatus.ACCEPTED, headers={"Retry-After": "1"})
        if found.status != HTTPStatus.OK:  # told anew, with this request's own id
            told = orjson.loads(found.body)
            errors = [(error["loc"], error["msg"]) for error in told["errors"]]
            raise Problem(HTTPStatus(found.status), told["detail"], errors=errors, headers={"Retry-After": "1"})
        return Reply(found.body, content_type=found.media_type)

    # From question to answer

    async def _admit(self, client: str) -> None:
        wait = self._allowance.wait(client) if self._shared is None else await self._shared.wait(client)
        if wait:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "this client asked for too many explanations; come again later",
                headers={"Retry-After": str(int(wait))},
                reason="explain_rate",
            )

    def _check(self, request: v1.Request, question: Question, runtime: Runtime) -> None:
        rows, most = len(request.x), self.config.explain.max_rows
        if rows > most:
            raise unprocessable([(("instances",), f"{rows} rows, where {most} can be explained at once")])
        if rows > 1 and request.x.size > MOST_VALUES:
            few = max(1, MOST_VALUES * rows // request.x.size)
            raise unprocessable([(("instances",), f"{rows} rows of this size, where {few} can be explained at once")])
        try:
            check(question, self.config, runtime.bundle.schema, runtime.bundle.classes)
        except UnfitQuestionError as unfit:
            raise v1.bad_parameter(unfit.parameter, unfit.message) from None

    async def _answer(
        self,
        question: Question,
        ids: Sequence[str],
        x: Floats,
        *,
        picture: bool,
        deadline: float,
    ) -> Reply:
        method = question.method or self.config.explain.method
        started, result = time.perf_counter(), "error"
        head = {"method": question.method, "target": question.target, "steps": question.steps,
                "top_k": question.top_k, "picture": picture}  # fmt: skip
        rows = x.tobytes()
        key = hashlib.sha256(orjson.dumps([self._loaded().bundle.id, head]) + rows).digest()
        try:
            pieces = self._recent.get(key)
            if pieces is not None:
                result = "cached"
            else:
                pieces = await self._ask(Task(head, rows), deadline)
                result = "ok"
                self._recent.put(key, pieces)
        except Problem as problem:
            result = {HTTPStatus.UNPROCESSABLE_ENTITY: "refused", HTTPStatus.GATEWAY_TIMEOUT: "timeout"}.get(
                problem.status, "shed" if problem.reason else "error"
            )
            raise
        except CrashedError:
            result = "crashed"
            raise fault_of_ours() from None
        except asyncio.CancelledError:  # the request's deadline, or the client left
            result = "timeout"
            raise
        finally:
            if result != "shed":
                self.metrics.explanations.add(method, result)
                self.metrics.explain_duration.observe(time.perf_counter() - started, method)
        if picture:
            return Reply(pieces.pieces[0], content_type=PNG)
        rows_of = zip(ids, pieces.pieces, strict=True)
        each = [b'{"id":' + orjson.dumps(name) + b"," + piece[1:] for name, piece in rows_of]
        return Reply(b'{"explanations":[' + b",".join(each) + b"]}")

    async def _ask(self, task: Task, deadline: float) -> Pieces:
        assert self._explainers is not None  # noqa: S101 - a runtime is shown to us once we are started
        head, body = await self._explainers.explain(task, deadline)
        status = head["status"]
        if status == "ok":
            ends = [0]
            for size in head["pieces"]:
                ends.append(ends[-1] + size)
            return Pieces(tuple(body[start:end] for start, end in pairwise(ends)))
        if status == "withheld":
            raise unprocessable([(("instances", row), WITHHELD.format(action)) for row, action in head["rows"]])
        if status == "refused":
            raise unprocessable([(("instances",), head["message"])])
        if status == "timeout":
            raise deadline_passed()
        raise RuntimeError(f"{head['kind']} in the process that explains")

    async def _answer_job(self, asked: Mapping[str, Any], x: Floats) -> Reply:
        deadline = asyncio.get_running_loop().time() + self.config.explain.job_seconds
        question = Question(**asked["question"])
        return await self._answer(question, asked["ids"], x, picture=asked["picture"], deadline=deadline)

    def _loaded(self) -> Runtime:
        runtime = self._runtime()
        if runtime is None or self._explainers is None:
            raise unavailable(self._trouble() or "the model is still loading", reason="loading", retry_after=2)
        return runtime
