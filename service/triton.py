"""Routes of Triton's extensions that only read: a model's config, its statistics, and the index of models."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson

from guards.faults import describe
from service.http import Call, Reply, Route
from service.inference import GET_CODES, MODEL, VERSION, InferenceService
from service.limits import POST_CODES
from service.metrics import STAGES
from service.protocols import triton
from service.protocols.problem import Problem, unprocessable
from service.protocols.strict_json import loads

__all__ = ["Triton", "read_only"]

INDEX = "/v2/repository/index"
PREDICTING = ("/v1/models/{name}:predict", "/predict", f"{MODEL}/infer", f"{VERSION}/infer", "grpc:ModelInfer")


class Triton:
    """Answers for the one model of a server."""

    def __init__(self, inference: InferenceService) -> None:
        self.inference, self.config = inference, inference.config

    def model_config(self) -> triton.Document:
        """Describe the model."""
        inference = self.inference
        return triton.model_config(self.config, inference.inputs, inference.outputs, inference.platform)

    def statistics(self) -> triton.Document:
        """Count what was asked and answered since the process began, by whatever door."""
        metrics = self.inference.metrics
        routes = [route for route in PREDICTING if (route,) in metrics.duration.index]
        answered = sum(int(metrics.requests.total(route, "200")) for route in routes)
        counts, seconds = zip(*(metrics.duration.total(route) for route in routes), strict=True)
        model = metrics.model
        return triton.statistics(
            self.config,
            rows=0 if model is None else int(model.rows.values.sum()),
            last_inference=0 if model is None else round(model.last_batch * 1000),
            requests={"success": (answered, sum(seconds)), "fail": (sum(counts) - answered, 0.0)},
            stages={stage: metrics.stages.total(stage) for stage in STAGES},
        )

    def index(self, *, ready: bool) -> list[triton.Document]:
        """List the model; with ``ready`` only if it is."""
        return triton.index(self.config, self.inference.trouble(), ready=ready)

    def routes(self) -> Mapping[str, Route]:
        """Map every exact path to its route; a model that is called `stats` goes before the statistics of all."""
        model = f"/v2/models/{self.config.name}"
        routes = {
            INDEX: Route(INDEX, {"POST": self._index}, POST_CODES),
            "/v2/models/stats": Route("/v2/models/stats", {"GET": self._statistics}, GET_CODES),
        }
        for path, template in ((model, MODEL), (f"{model}/versions/{self.config.version}", VERSION)):
            routes[f"{path}/config"] = Route(f"{template}/config", {"GET": self._config}, GET_CODES)
            routes[f"{path}/stats"] = Route(f"{template}/stats", {"GET": self._statistics}, GET_CODES)
        for change in ("load", "unload"):
            path, template = (f"/v2/repository/models/{name}/{change}" for name in (self.config.name, "{name}"))
            routes[path] = Route(template, {"POST": self._change}, POST_CODES)
        return routes

    async def _config(self, _: Call) -> Reply:
        return Reply(orjson.dumps(self.model_config()))

    async def _statistics(self, _: Call) -> Reply:
        return Reply(orjson.dumps(self.statistics()))

    async def _index(self, call: Call) -> Reply:
        asked = loads(call.body) if call.body else {}
        ready = asked.get("ready", False) if isinstance(asked, dict) else None
        if not isinstance(ready, bool):
            place, got = (("ready",), ready) if isinstance(asked, dict) else ((), asked)
            raise unprocessable([(place, f"expected {'a boolean' if place else 'an object'}, got {describe(got)}")])
        return Reply(orjson.dumps(self.index(ready=ready)))

    async def _change(self, _: Call) -> Reply:
        raise read_only()


def read_only() -> Problem:
    """Refuse to load or unload."""
    what = "models are not loaded or unloaded here: a server serves the one bundle that it was started with"
    return Problem(HTTPStatus.BAD_REQUEST, what)
