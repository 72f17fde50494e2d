"""The HTTP routes of KServe's v1 protocol, and the routes of feedback, monitors, health and metrics."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qsl

import orjson

from guards.actions import Action
from service.front.admission import Needs
from service.front.client_threads import CLIENT_THREADS
from service.front.dispatch import POST_CODES
from service.front.engine_client import EngineClient
from service.front.http import Call, Reply, Route
from service.front.prediction import Asked, Prediction
from service.front.protocols import feedback, v1
from service.front.protocols.images import may_hold_files
from service.front.protocols.pixels import odd_pixels
from service.front.protocols.problem import Problem
from service.front.protocols.top_k import NUMBER_BYTES, SHOWN, TOP_K, read_top_k, refusal, text_bytes
from service.front.readiness import Readiness
from service.messages.answer import Answer
from service.messages.outcomes import Outcome
from service.messages.row_name import row_name
from service.messages.scope import SCOPES
from service.messages.served_model import ServedModel
from service.telemetry.request_record import CURRENT, current_owner

__all__ = ["CODES", "GET_CODES", "READY_CODES", "Exposition", "V1Routes", "read"]

GET_CODES = (200, 400, 405, 500, 504)
READY_CODES = (200, 400, 405, 500, 503, 504)
MODEL = "/v1/models/{name}"
PREDICT, FEEDBACK, MONITORS = f"{MODEL}:predict", f"{MODEL}:feedback", f"{MODEL}/monitors"
BENTOML_PREDICT = "/predict"
CODES: Mapping[str, tuple[int, ...]] = {
    "/livez": GET_CODES,
    "/healthz": GET_CODES,
    "/readyz": READY_CODES,
    "/metrics": GET_CODES,
    "/v1/models": GET_CODES,
    MODEL: READY_CODES,
    MONITORS: (*READY_CODES, 404),
    PREDICT: POST_CODES,
    FEEDBACK: (*POST_CODES, 404),
    BENTOML_PREDICT: POST_CODES,
}
"""The status codes of each route, by its template."""
NEEDS: Mapping[str, Needs] = {
    "/livez": "nothing",
    "/healthz": "nothing",
    "/readyz": "nothing",
    "/metrics": "metrics",
    MONITORS: "monitors",
}
"""What a GET route needs if the server has keys; every other route needs any key."""
LARGE_BODY = 65536
"""The largest body, in bytes, that is decoded without a thread."""
LONGEST_QUERY = 100
PREDICT_PARAMETERS: v1.Parameters = {"detail": bool, TOP_K: (int, str)}


class Exposition(Protocol):
    """Writes the metrics that Prometheus scrapes."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics of the server in a format that ``accept`` names, and the content type of that format."""
        ...


class V1Routes:
    """The v1 routes of the served model."""

    def __init__(
        self,
        served: ServedModel,
        engine: EngineClient,
        *,
        readiness: Readiness,
        prediction: Prediction,
        exposition: Exposition,
    ) -> None:
        """Serve one model; ``exposition`` writes the metrics."""
        self._served, self._engine, self._readiness = served, engine, readiness
        self._prediction, self._exposition = prediction, exposition
        self._storing: set[asyncio.Future[bytes]] = set()

    def routes(self) -> dict[str, Route]:
        """Return the route of every exact path. The model's name is known, so no template is matched per request."""
        get = {
            "/livez": self._alive, "/healthz": self._alive, "/readyz": self._ready, "/metrics": self._scrape,
            "/v1/models": self._models, MODEL: self._model, MONITORS: self._monitors,
        }  # fmt: skip
        predict = (PREDICT, BENTOML_PREDICT)
        routes = [
            Route(template, {"GET": handler}, CODES[template], needs=NEEDS.get(template, "a key"))
            for template, handler in get.items()
        ]
        routes += [
            Route(template, {"POST": self._predict}, CODES[template], direct=True, needs="predict")
            for template in predict
        ]
        routes.append(Route(FEEDBACK, {"POST": self._feedback}, CODES[FEEDBACK], needs="feedback"))
        return {route.template.replace("{name}", self._served.name): route for route in routes}

    async def _alive(self, _: Call) -> Reply:
        """Answer that the process is alive. Only /readyz answers whether the server can predict."""
        return _json({"status": "alive"})

    async def _ready(self, _: Call) -> Reply:
        self._readiness.check()
        return _json({"status": "ready"})

    async def _scrape(self, call: Call) -> Reply:
        accept = call.headers.get(b"accept", b"").decode("latin-1")
        body, content_type = await self._exposition.render(accept)
        return Reply(body, content_type=content_type)

    async def _models(self, _: Call) -> Reply:
        return _json({"models": [self._served.name]})

    async def _model(self, _: Call) -> Reply:
        ready = self._readiness.trouble() is None
        described: dict[str, object] = {"name": self._served.name, "ready": ready}
        labels = len(self._served.classes)
        many = labels > SHOWN and self._engine.ready() is None
        return _json({**described, "classes": labels, TOP_K: SHOWN} if many else described)

    async def _monitors(self, call: Call) -> Reply:
        """Report every monitor over the served bundle; the query `of` selects its version or its lifetime instead."""
        given = parse_qsl(call.query, keep_blank_values=True)
        scope = next((each for each in SCOPES if given in ([], [("of", each)])), None)
        if scope is None:
            asked = call.query[:LONGEST_QUERY]
            raise Problem(HTTPStatus.BAD_REQUEST, f"`{asked}`: the query is `of=` and one of {', '.join(SCOPES)}")
        self._readiness.check_engine()
        return _json(await self._engine.report(scope))

    async def _feedback(self, call: Call) -> Reply:
        """Store outcomes of earlier predictions."""
        self._readiness.check_engine()
        # Outcomes that have arrived are stored even if the client leaves before the answer.
        storing = asyncio.ensure_future(self._store(call.body))
        self._storing.add(storing)
        storing.add_done_callback(self._stored)
        return Reply(await asyncio.shield(storing))

    async def _store(self, body: bytes) -> bytes:
        if not self._served.stores_rows:
            await self._engine.join([])  # raises Refused: without a store the body need not be read
        outcomes = await self._outcomes(body)
        if (exchange := CURRENT.get()) is not None and exchange.budget is not None:
            await exchange.budget.spend("feedback_rows", len(outcomes))
        owner = current_owner()
        named = [replace(outcome, id=row_name(owner, outcome.id)) for outcome in outcomes]
        return feedback.encode(await self._engine.join(named), outcomes)

    async def _outcomes(self, body: bytes) -> list[Outcome]:
        decode = partial(feedback.decode, body, self._served.classes)
        if len(body) <= LARGE_BODY:
            return decode()
        CLIENT_THREADS.check_room()
        return await CLIENT_THREADS.run(decode)

    def _stored(self, storing: "asyncio.Future[bytes]") -> None:
        self._storing.discard(storing)
        storing.cancelled() or storing.exception()  # otherwise asyncio logs that nobody has read the exception

    async def _predict(self, call: Call) -> Reply:
        """Predict the rows of a body, and run the guards on them."""
        predicted = await self._prediction.predict(
            partial(self._read, call.body), deadline=call.deadline, slow=is_slow(call.body, self._served)
        )
        return Reply(predicted.body, headers=predicted.headers)

    def _read(self, body: bytes) -> Asked[bytes]:
        served = self._served
        request = decode(body, served, PREDICT_PARAMETERS)
        detail = bool(request.parameters.get("detail", False))
        top_k = _top_k(request, served.classes)

        def encode(answer: Answer) -> tuple[bytes, Action]:
            odd = odd_pixels(request.x, served.rows)
            return v1.encode(answer, ids=request.ids, served=served, detail=detail, top_k=top_k, warnings=odd)

        return Asked(request, encode, causes=detail, detail=detail)


def _top_k(request: v1.Request, classes: tuple[str, ...]) -> int | None:
    """Return how many labels of each row the answer names; None for all.

    Raises:
        Problem: 422, `top_k` has no valid value, or the answer would be too large.
    """
    asked = request.parameters.get(TOP_K)
    labels = len(classes)
    if asked is None and labels <= SHOWN:
        return None
    try:
        top_k = read_top_k(SHOWN if asked is None else asked, labels)
    except ValueError as wrong:
        raise v1.bad_parameter(TOP_K, str(wrong)) from None
    shown = labels if top_k is None else top_k
    if labels > SHOWN and (too_large := refusal(len(request.x), shown, labels, NUMBER_BYTES + text_bytes(classes))):
        raise v1.bad_parameter(TOP_K, too_large)
    return top_k


def is_slow(body: bytes, served: ServedModel) -> bool:
    """Return whether a v1 body is decoded in a thread, because decoding would hold up other requests."""
    return len(body) > LARGE_BODY or may_hold_files(body, served.rows)


def decode(body: bytes, served: ServedModel, parameters: v1.Parameters) -> v1.Request:
    """Decode a v1 body for the served model.

    Raises:
        Problem: 400 or 422, the body cannot be decoded into rows.
    """
    return v1.decode(
        body,
        schema=served.rows,
        max_rows=served.server.max_rows_per_request,
        groups=served.groups,
        parameters=parameters,
    )


async def read(served: ServedModel, call: Call, parameters: v1.Parameters) -> v1.Request:
    """Decode a v1 body, in a thread if :func:`is_slow` says so.

    Raises:
        Problem: 400 or 422, the body cannot be decoded into rows.
        Refused: too many requests wait to be decoded.
    """
    if is_slow(call.body, served):
        CLIENT_THREADS.check_room()
        return await CLIENT_THREADS.run(partial(decode, call.body, served, parameters))
    return decode(call.body, served, parameters)


def _json(document: object) -> Reply:
    return Reply(orjson.dumps(document))
