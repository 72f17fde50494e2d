"""The read-only routes of Triton's extensions: a model's config, its statistics, and the index of models."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

import orjson

from guards.input.cell_faults import describe
from service.front.dispatch import POST_CODES
from service.front.http import Call, Reply, Route
from service.front.protocols import triton
from service.front.protocols.problem import Problem, unprocessable
from service.front.protocols.strict_json import loads
from service.front.protocols.v2_outputs import inputs_of, outputs_of
from service.front.readiness import Readiness
from service.front.v2_routes import GET_CODES, MODEL, VERSION
from service.messages.served_model import ServedModel

__all__ = ["CODES", "Totals", "Triton", "TritonRoutes", "read_only"]

INDEX, STATISTICS = "/v2/repository/index", "/v2/models/stats"
LOAD, UNLOAD = (f"/v2/repository/models/{{name}}/{change}" for change in ("load", "unload"))
CODES: Mapping[str, tuple[int, ...]] = {
    INDEX: POST_CODES,
    STATISTICS: GET_CODES,
    **{f"{path}/{end}": GET_CODES for path in (MODEL, VERSION) for end in ("config", "stats")},
    LOAD: POST_CODES,
    UNLOAD: POST_CODES,
}
"""The status codes of each route, by its template."""
PREDICTING = ("/v1/models/{name}:predict", "/predict", f"{MODEL}/infer", f"{VERSION}/infer", "grpc:ModelInfer")


class Totals(Protocol):
    """The counts of all processes of the server, from its start until one moment."""

    def requests(self, route: str, code: str) -> float:
        """Return how many requests of a route were answered with a code; 0 if the server has no such route."""
        ...

    def duration(self, route: str) -> tuple[int, float]:
        """Return the number of requests of a route and their total seconds; zeros if the server has no such route."""
        ...

    def stage(self, stage: str) -> tuple[int, float]:
        """Return how often a stage ran, and its total seconds."""
        ...

    def rows(self) -> int:
        """Return the number of answered rows."""
        ...

    def last_batch(self) -> float:
        """Return when the last batch was answered, in seconds since 1970; 0 if there was none."""
        ...


class Triton:
    """Answers Triton's extensions for the served model, for every transport."""

    def __init__(self, served: ServedModel, readiness: Readiness, totals: Callable[[], Totals]) -> None:
        """Answer for the served model; ``totals`` returns the server's counts so far."""
        self._served, self._readiness, self._totals = served, readiness, totals

    def model_config(self) -> triton.Document:
        """Return the model's config in Triton's form."""
        return triton.model_config(self._served, inputs_of(self._served.rows), outputs_of(self._served))

    def statistics(self) -> triton.Document:
        """Return the counts of requests, rows and stages since the server started, over all routes and transports."""
        totals = self._totals()
        answered = sum(int(totals.requests(route, "200")) for route in PREDICTING)
        counts, seconds = zip(*(totals.duration(route) for route in PREDICTING), strict=True)
        return triton.statistics(
            self._served,
            rows=totals.rows(),
            last_inference=round(totals.last_batch() * 1000),
            requests={"success": (answered, sum(seconds)), "fail": (sum(counts) - answered, 0.0)},
            stages={stage: totals.stage(stage) for stage in triton.STAGES.values()},
        )

    def index(self, *, ready: bool) -> list[triton.Document]:
        """List the served model; if ``ready`` is true, only if the model is ready."""
        return triton.index(self._served, self._readiness.trouble(), ready=ready)


class TritonRoutes:
    """The HTTP routes of Triton's extensions for the served model."""

    def __init__(self, served: ServedModel, answers: Triton) -> None:
        self._served, self._answers = served, answers

    def routes(self) -> Mapping[str, Route]:
        """Return the route of every exact path. A model named `stats` hides the statistics of all models."""
        handlers = {INDEX: self._index, LOAD: self._change, UNLOAD: self._change}
        routes = [Route(template, {"POST": handler}, CODES[template]) for template, handler in handlers.items()]
        config, statistics = {"GET": self._config}, {"GET": self._statistics}
        routes.append(Route(STATISTICS, statistics, CODES[STATISTICS], needs="metrics"))
        for path in (MODEL, VERSION):
            routes.append(Route(f"{path}/config", config, CODES[f"{path}/config"]))
            routes.append(Route(f"{path}/stats", statistics, CODES[f"{path}/stats"], needs="metrics"))
        name, version = self._served.name, self._served.version
        return {route.template.replace("{name}", name).replace("{version}", version): route for route in routes}

    async def _config(self, _: Call) -> Reply:
        return Reply(orjson.dumps(self._answers.model_config()))

    async def _statistics(self, _: Call) -> Reply:
        return Reply(orjson.dumps(self._answers.statistics()))

    async def _index(self, call: Call) -> Reply:
        asked = loads(call.body) if call.body else {}
        ready = asked.get("ready", False) if isinstance(asked, dict) else None
        if not isinstance(ready, bool):
            place, got = (("ready",), ready) if isinstance(asked, dict) else ((), asked)
            raise unprocessable([(place, f"expected {'a boolean' if place else 'an object'}, got {describe(got)}")])
        return Reply(orjson.dumps(self._answers.index(ready=ready)))

    async def _change(self, _: Call) -> Reply:
        raise read_only()


def read_only() -> Problem:
    """Return the problem that refuses to load or unload a model."""
    what = "models are not loaded or unloaded here: a server serves the one bundle that it was started with"
    return Problem(HTTPStatus.BAD_REQUEST, what)
