"""What each route answers; the protocols do the wire, the runtime the work."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qsl

import orjson

from guards.config import Config
from service.exchange import took
from service.http import Call, Reply, Route
from service.ledger import Ledger
from service.limits import POST_CODES
from service.metrics import Metrics
from service.protocols import v1
from service.protocols.images import may_hold_files
from service.protocols.pixels import odd_pixels
from service.protocols.problem import Problem, unavailable
from service.protocols.top_k import NUMBER_BYTES, SHOWN, TOP_K, read_top_k, refusal, text_bytes
from service.runtime import Runtime
from service.totals import SCOPES

__all__ = ["Handlers", "read"]

GET_CODES = (200, 400, 405, 500, 504)
READY_CODES = (200, 400, 405, 500, 503, 504)
MONITOR_CODES = (*READY_CODES, 404)
FEEDBACK_CODES = (*POST_CODES, 404)
LARGE_BODY = 65536
LONGEST_QUERY = 100
PREDICT_PARAMETERS: Mapping[str, type | tuple[type, ...]] = {"detail": bool, TOP_K: (int, str)}


class Handlers:
    """The routes of one model; ``runtime`` gives None until it is loaded, ``trouble`` says why it is not ready."""

    def __init__(
        self,
        config: Config,
        *,
        runtime: Callable[[], Runtime | None],
        trouble: Callable[[], str | None],
        pages: Mapping[str, tuple[bytes, str]],
    ) -> None:
        """Serve ``pages`` (body and media type by path) as they are."""
        self.config, self._runtime, self._trouble, self._pages = config, runtime, trouble, pages
        self.metrics: Metrics
        self._taking: set[asyncio.Future[bytes]] = set()

    def routes(self) -> dict[str, Route]:
        """Map every exact path to its route; names are known, so that no template need be parsed."""
        model = f"/v1/models/{self.config.name}"
        template = "/v1/models/{name}"
        routes = {
            "/livez": Route("/livez", {"GET": self.alive}, GET_CODES),
            "/healthz": Route("/healthz", {"GET": self.alive}, GET_CODES),
            "/readyz": Route("/readyz", {"GET": self.ready}, READY_CODES),
            "/metrics": Route("/metrics", {"GET": self.scrape}, GET_CODES),
            "/v1/models": Route("/v1/models", {"GET": self.models}, GET_CODES),
            model: Route(template, {"GET": self.model}, READY_CODES),
            f"{model}/monitors": Route(f"{template}/monitors", {"GET": self.monitors}, MONITOR_CODES),
            f"{model}:predict": Route(f"{template}:predict", {"POST": self.predict}, POST_CODES),
            f"{model}:feedback": Route(f"{template}:feedback", {"POST": self.feedback}, FEEDBACK_CODES),
            "/predict": Route("/predict", {"POST": self.predict}, POST_CODES),
        }
        for path in self._pages:
            routes[path] = Route(path, {"GET": self.page}, GET_CODES)
        return routes

    async def alive(self, _: Call) -> Reply:
        """Say that the process answers; that it can predict is for readyz."""
        return _json({"status": "alive"})

    async def ready(self, _: Call) -> Reply:
        """Say whether the model is loaded, passed its self-test, and is not draining."""
        trouble = self._trouble()
        if trouble is not None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, trouble, headers={"Retry-After": "2"})
        return _json({"status": "ready"})

    async def scrape(self, call: Call) -> Reply:
        """Render the metrics in the format the scraper asks for."""
        accept = call.headers.get(b"accept", b"").decode("latin-1")
        body, content_type = await asyncio.to_thread(self.metrics.render, accept)  # may wait for a monitor
        return Reply(body, content_type=content_type)

    async def page(self, call: Call) -> Reply:
        """Give a document made at start."""
        body, content_type = self._pages[call.path]
        return Reply(body, content_type=content_type)

    async def models(self, _: Call) -> Reply:
        """List the one model."""
        return _json({"models": [self.config.name]})

    async def model(self, _: Call) -> Reply:
        """Describe the model."""
        described: dict[str, object] = {"name": self.config.name, "ready": self._trouble() is None}
        runtime = self._runtime()
        labels = 0 if runtime is None else len(runtime.bundle.classes)
        return _json({**described, "classes": labels, TOP_K: SHOWN} if labels > SHOWN else described)

    async def monitors(self, call: Call) -> Reply:
        """Report every monitor: of the served bundle, or, by ``of``, of its version or of all there ever was."""
        given = parse_qsl(call.query, keep_blank_values=True)
        scope = next((each for each in SCOPES if given in ([], [("of", each)])), None)
        if scope is None:
            asked = call.query[:LONGEST_QUERY]
            raise Problem(HTTPStatus.BAD_REQUEST, f"`{asked}`: the query is `of=` and one of {', '.join(SCOPES)}")
        return _json(await self._ledger().report(scope))

    async def feedback(self, call: Call) -> Reply:
        """Take outcomes of predictions that were answered before."""
        feedback = self._ledger().feedback
        if feedback is None:
            raise Problem(HTTPStatus.NOT_FOUND, "this server keeps no predictions: store.enabled is false")
        taking = asyncio.ensure_future(feedback.take(call.body))
        self._taking.add(taking)
        taking.add_done_callback(self._taken)
        return Reply(await asyncio.shield(taking))  # outcomes that arrived are stored, whoever waits to hear of it

    async def predict(self, call: Call) -> Reply:
        """Judge and predict the rows of a body."""
        runtime = self._loaded()
        runtime.check_room()
        started = time.perf_counter()
        request = await read(call, runtime, PREDICT_PARAMETERS)
        took(self.metrics, "decode", started)
        detail = bool(request.parameters.get("detail", False))
        top_k = _top_k(request, runtime.bundle.classes)
        answer = await runtime.predict(
            request.x, request.groups, ids=request.ids, deadline=call.deadline, causes=detail
        )
        started = time.perf_counter()
        odd = odd_pixels(request.x, runtime.bundle.schema)
        encode = partial(
            v1.encode, answer, ids=request.ids, bundle=runtime.bundle, detail=detail, top_k=top_k, warnings=odd
        )
        body, strictest = await asyncio.to_thread(encode) if answer.is_large else encode()
        took(self.metrics, "encode", started)
        return Reply(body, headers={"X-Guardhouse-Action": strictest.label})

    def _taken(self, taking: "asyncio.Future[bytes]") -> None:
        self._taking.discard(taking)
        taking.cancelled() or taking.exception()  # looked at: what nobody waits for any more is no unhandled error

    def _loaded(self) -> Runtime:
        runtime = self._runtime()
        if runtime is None:
            raise unavailable(self._trouble() or "the model is still loading", reason="loading", retry_after=2)
        return runtime

    def _ledger(self) -> Ledger:
        ledger = self._loaded().ledger
        assert ledger is not None  # noqa: S101 - a runtime is shown to us once it is started
        return ledger


def _top_k(request: v1.Request, classes: tuple[str, ...]) -> int | None:
    """Say how many labels of each row the answer names; None for all.

    Raises:
        Problem: 422, what was asked for is no number of labels, or the answer would be too large.
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


async def read(call: Call, runtime: Runtime, parameters: Mapping[str, type | tuple[type, ...]]) -> v1.Request:
    """Decode a v1 body for what is served."""

    def decode() -> v1.Request:
        return v1.decode(
            call.body,
            schema=runtime.bundle.schema,
            max_rows=runtime.config.server.max_rows_per_request,
            groups=[m.request or "" for m in runtime.request_groups.values()],
            parameters=parameters,
        )

    # What takes long enough to decode that its neighbours would notice is decoded beside the event loop.
    slow = len(call.body) > LARGE_BODY or may_hold_files(call.body, runtime.bundle.schema)
    return await asyncio.to_thread(decode) if slow else decode()


def _json(document: object) -> Reply:
    return Reply(orjson.dumps(document))
