"""The explanation routes of a front: they decode requests, check limits, ask the explanation desk, and reply."""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus

import orjson

from service.front.control_channel import ControlChannel
from service.front.dispatch import POST_CODES
from service.front.http import Call, Reply, Route
from service.front.negotiation import PNG, may_wait, wants_picture
from service.front.protocols import v1
from service.front.protocols.problem import Problem, deadline_passed, fault_of_ours, unprocessable
from service.messages.explanations import (
    ADMIT,
    EXPLAIN,
    EXPLAIN_LATER,
    GIVE_BACK,
    JOB_ANSWER,
    ExplainAnswer,
    ExplainRequest,
)
from service.messages.refused import Refused
from service.messages.row_name import id_of, row_name
from service.messages.served_model import ServedModel
from service.telemetry.request_record import CURRENT, current_owner

__all__ = ["CODES", "MOST_VALUES", "ExplainRoutes", "ReadRows"]

FOLDER = "/v1/explanations"
EXPLAIN_PATH, LIST_PATH, RESULT_PATH = "/v1/models/{name}:explain", "/v1/models/{name}/explainers", f"{FOLDER}/{{id}}"
CODES: Mapping[str, tuple[int, ...]] = {
    EXPLAIN_PATH: (*POST_CODES, 202, 429),
    LIST_PATH: (200, 400, 405, 500, 504),
    RESULT_PATH: (200, 400, 405, 500, 503, 504, 202, 404, 422),
}
"""The codes of each route, by its template."""
PARAMETERS: Mapping[str, type | tuple[type, ...]] = {"method": str, "target": str, "steps": int, "top_k": int}
MOST_VALUES = 2**18
"""The most numbers in an answer to several rows: a few megabytes of JSON."""
REPLACED = "the model was replaced meanwhile; ask again"
AGAIN = {"Retry-After": "1"}
JOB = re.compile("[A-Za-z0-9_-]{1,64}")
WAITING = orjson.dumps({"state": "waiting"})
ReadRows = Callable[[Call, Mapping[str, type | tuple[type, ...]]], Awaitable[v1.Request]]
"""Decodes a v1 body for the served model: a call, and the known parameters with their types."""


class ExplainRoutes:
    """The explanation routes of one model."""

    def __init__(self, served: ServedModel, control: ControlChannel, read: ReadRows) -> None:
        """Ask the desk through ``control``; ``read`` decodes the bodies."""
        self._served, self._control, self._read = served, control, read
        explainers = [each.model_dump() for each in served.explain.explainers]
        self._explainers = orjson.dumps({"explainers": explainers})

    def routes(self) -> dict[str, Route]:
        """Map every path to its route."""
        model = f"/v1/models/{self._served.name}"
        return {
            f"{model}:explain": Route(EXPLAIN_PATH, {"POST": self.explain}, CODES[EXPLAIN_PATH], needs="explain"),
            f"{model}/explainers": Route(LIST_PATH, {"GET": self.explainers}, CODES[LIST_PATH], needs="explain"),
            f"{FOLDER}/*": Route(RESULT_PATH, {"GET": self.result}, CODES[RESULT_PATH], needs="explain"),
        }

    async def explainers(self, _: Call) -> Reply:
        """List the methods that a request may choose."""
        return Reply(self._explainers)

    async def explain(self, call: Call) -> Reply:
        """Explain the rows of a body, now or later.

        Raises:
            Refused: the engine is not ready, the client asked too often, the queue is full, or the store is down.
            Problem: the request has faults, the deadline passed, or the server failed.
        """
        self._check_ready()
        owner = current_owner()
        budget = None if (exchange := CURRENT.get()) is None else exchange.budget
        meter = None if budget is None else budget.meter("explain_seconds")
        # No address is the name of a principal's row.
        client = {"client": call.client if owner is None else row_name(owner, ""), "meter": meter}
        await self._control.ask(ADMIT, client)  # before decoding, so that refusing a flood of requests is cheap
        try:
            rows = await self._read(call, PARAMETERS)
            self._check_size(rows)
        except (Problem, Refused):
            with suppress(Refused):  # if the engine has ended, its next process gives a whole allowance
                await self._control.ask(GIVE_BACK, client)
            raise
        if exchange is not None:
            exchange.rows = len(rows.x)
        question = {name: rows.parameters.get(name) for name in PARAMETERS}
        picture = wants_picture(call.headers)
        kept = None if budget is None else budget.quotas.explanations_kept
        request = ExplainRequest(question, rows.ids, rows.x, picture, call.request_id, owner, meter, kept)
        if self._served.stores_rows and may_wait(call.headers):
            return await self._explain_later(request)
        head = {**request.head(), "deadline": call.deadline}
        return _reply(ExplainAnswer.of(*await self._control.ask(EXPLAIN, head, request.x.tobytes())))

    async def result(self, call: Call) -> Reply:
        """Give the answer of a job, or say that the job is still waiting.

        Raises:
            Refused: the engine is not ready, or the store is down.
            Problem: there is no such job, or it has no answer.
        """
        self._check_ready()
        name = call.path.rpartition("/")[2]
        if JOB.fullmatch(name):
            job = row_name(current_owner(), name)
            answer = ExplainAnswer.of(*await self._control.ask(JOB_ANSWER, {"job": job}))
        else:  # never the name of a job, and perhaps no text that a database takes
            answer = ExplainAnswer("unknown")
        try:
            return _reply(answer)
        except Problem as problem:
            if answer.status != "unknown":
                problem.headers |= AGAIN
            raise

    async def _explain_later(self, request: ExplainRequest) -> Reply:
        head, body = await self._control.ask(EXPLAIN_LATER, request.head(), request.x.tobytes())
        if "job" not in head:
            return _reply(ExplainAnswer.of(head, body))
        location = {"Location": f"{FOLDER}/{id_of(head['job'])}", **AGAIN, "Preference-Applied": "respond-async"}
        return Reply(WAITING, HTTPStatus.ACCEPTED, headers=location)

    def _check_ready(self) -> None:
        if (trouble := self._control.trouble) is not None:
            raise Refused("loading", trouble, retry_after=2)

    def _check_size(self, request: v1.Request) -> None:
        rows, most = len(request.x), self._served.explain.max_rows
        if rows > most:
            raise unprocessable([(("instances",), f"{rows} rows, but {most} at most can be explained at once")])
        if rows > 1 and request.x.size > MOST_VALUES:
            few = max(1, MOST_VALUES * rows // request.x.size)
            raise unprocessable([(("instances",), f"{rows} rows of this size, but {few} at most fit into a request")])


def _reply(answer: ExplainAnswer) -> Reply:
    """Turn the desk's answer into an HTTP reply.

    Raises:
        Problem: the answer is neither an explanation nor a job that is still waiting.
    """
    match answer.status:
        case "ok":
            return Reply(answer.body, content_type=PNG) if answer.picture else Reply(answer.body)
        case "waiting":
            return Reply(WAITING, HTTPStatus.ACCEPTED, headers=AGAIN)
        case "unfit":
            raise unprocessable(answer.faults)
        case "timeout":
            raise deadline_passed()
        case "replaced":
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, REPLACED)
        case "unknown":
            raise Problem(HTTPStatus.NOT_FOUND, "there is no explanation of that id, or it is no longer kept")
        case "fault":
            raise fault_of_ours()
