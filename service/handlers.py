"""What each route answers; the protocols do the wire, the runtime the work."""

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson

from guards.config import Config
from guards.explainer import Attribution, NotExplainableError
from guards.types import Action
from service.http import Call, Reply, Route
from service.limits import POST_CODES
from service.metrics import Metrics
from service.protocols import v1
from service.protocols.problem import Problem, unavailable, unprocessable
from service.runtime import Runtime

__all__ = ["Handlers"]

GET_CODES = (200, 400, 405, 500, 504)
READY_CODES = (200, 400, 405, 500, 503, 504)
LARGE_BODY = 65536
EXPLAIN_ROWS = 32
PREDICT_PARAMETERS: Mapping[str, type | tuple[type, ...]] = {"detail": bool}
EXPLAIN_PARAMETERS: Mapping[str, type | tuple[type, ...]] = {"method": str, "target": str, "steps": int, "top_k": int}


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
            f"{model}/monitors": Route(f"{template}/monitors", {"GET": self.monitors}, READY_CODES),
            f"{model}:predict": Route(f"{template}:predict", {"POST": self.predict}, POST_CODES),
            f"{model}:explain": Route(f"{template}:explain", {"POST": self.explain}, POST_CODES),
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
        body, content_type = self.metrics.render(call.headers.get(b"accept", b"").decode("latin-1"))
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
        return _json({"name": self.config.name, "ready": self._trouble() is None})

    async def monitors(self, _: Call) -> Reply:
        """Report every monitor, beside the event loop: intervals take a while."""
        return _json(await asyncio.to_thread(self._loaded().monitoring.report))

    async def predict(self, call: Call) -> Reply:
        """Judge and predict the rows of a body."""
        runtime = self._loaded()
        started = time.perf_counter()
        request = await self._decode(call, runtime, PREDICT_PARAMETERS)
        self.metrics.stages.observe(time.perf_counter() - started, "decode")
        detail = bool(request.parameters.get("detail", False))
        answer = await runtime.predict(request.x, request.groups, deadline=call.deadline, causes=detail)
        started = time.perf_counter()
        body, strictest = v1.encode(answer, ids=request.ids, bundle=runtime.bundle, detail=detail)
        self.metrics.stages.observe(time.perf_counter() - started, "encode")
        return Reply(body, headers={"X-Guardhouse-Action": strictest.label})

    async def explain(self, call: Call) -> Reply:
        """Explain the rows of a body."""
        runtime = self._loaded()
        request = await self._decode(call, runtime, EXPLAIN_PARAMETERS)
        if len(request.x) > EXPLAIN_ROWS:
            raise unprocessable(
                [(("instances",), f"{len(request.x)} rows, where {EXPLAIN_ROWS} can be explained at once")]
            )
        method = runtime.config.explain.model_dump()["method"]
        if request.parameters.get("method", method) != method:
            raise v1.bad_parameter("method", f"not known; there is {method}")
        classes = runtime.bundle.classes
        target = request.parameters.get("target")
        if target is not None and target not in classes:
            raise v1.bad_parameter(
                "target", f"no label; there are {list(classes)}" if classes else "regression has none"
            )
        top_k = request.parameters.get("top_k")
        if top_k is not None and (runtime.bundle.schema.kind != "tabular" or top_k < 1):
            raise v1.bad_parameter("top_k", "a positive number of columns, for tabular rows")
        changed = {name: request.parameters[name] for name in ("steps",) if name in request.parameters}
        index = None if target is None else classes.index(target)
        started = time.perf_counter()
        result = "error"
        try:
            _check_parameters(runtime, changed)
            answer, targets, attribution = await runtime.explain(request.x, [index] * len(request.x), changed)
            result = "ok" if attribution is not None else "refused"
        except NotExplainableError as why:
            result = "refused"
            raise unprocessable([(("instances",), str(why))]) from None
        except Problem:
            result = "refused"
            raise
        finally:
            self.metrics.explanations.add(method, result)
            self.metrics.explain_duration.observe(time.perf_counter() - started, method)
        if attribution is None:
            raise unprocessable(
                [
                    (("instances", row), f"the row's verdict is {Action(action).label}: it has no answer to explain")
                    for row, action in enumerate(answer.action.tolist())
                    if action >= Action.ABSTAIN
                ]
            )
        return _json({"explanations": _explanations(request.ids, targets, attribution, runtime, top_k)})

    async def _decode(
        self, call: Call, runtime: Runtime, parameters: Mapping[str, type | tuple[type, ...]]
    ) -> v1.Request:
        def decode() -> v1.Request:
            return v1.decode(
                call.body,
                schema=runtime.bundle.schema,
                request_id=call.request_id,
                max_rows=self.config.server.max_rows_per_request,
                groups=[m.request or "" for m in runtime.request_groups.values()],
                parameters=parameters,
            )

        # A large body takes long enough to decode that its neighbours would notice.
        return await asyncio.to_thread(decode) if len(call.body) > LARGE_BODY else decode()

    def _loaded(self) -> Runtime:
        runtime = self._runtime()
        if runtime is None:
            raise unavailable(self._trouble() or "the model is still loading", reason="loading", retry_after=2)
        return runtime


def _check_parameters(runtime: Runtime, changed: Mapping[str, Any]) -> None:
    try:
        runtime.bundle.explainer(changed)
    except ValueError:
        name = next(iter(changed))
        bounds = type(runtime.config.explain).model_json_schema()["properties"][name]
        raise v1.bad_parameter(name, f"from {bounds['minimum']} to {bounds['maximum']}") from None


def _explanations(
    ids: list[str], targets: list[int], attribution: Attribution, runtime: Runtime, top_k: int | None
) -> list[dict[str, Any]]:
    bundle = runtime.bundle
    method = runtime.config.explain.model_dump()["method"]
    values = attribution.values.cpu().numpy()
    scalars = [
        tensor.double().tolist()
        for tensor in (attribution.baseline_value, attribution.output_value, attribution.convergence_delta)
    ]
    explanations = []
    for row, (name, target) in enumerate(zip(ids, targets, strict=True)):
        shown: Any = values[row].tolist()
        if bundle.schema.kind == "tabular":
            order = sorted(range(len(shown)), key=lambda i: -abs(shown[i]))[: top_k or len(shown)]
            shown = {bundle.schema.names[i]: shown[i] for i in sorted(order)}
        explanations.append(
            {
                "id": name,
                "label": bundle.classes[target] if bundle.classes else None,
                "method": method,
                "attributions": shown,
                "baseline_value": scalars[0][row],
                "output_value": scalars[1][row],
                "convergence_delta": scalars[2][row],
                "neighbours": [],
            }
        )
    return explanations


def _json(document: object) -> Reply:
    return Reply(orjson.dumps(document))
