"""The Open Inference Protocol's operations, by whatever transport they are asked for, and their HTTP routes."""

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import orjson

from guards.bundle import __version__
from guards.types import Action
from service.exchange import took
from service.http import JSON, OCTETS, Call, Reply, Route
from service.limits import POST_CODES
from service.metrics import Metrics
from service.protocols import v2
from service.protocols.images import may_hold_files
from service.protocols.outputs import (
    Output,
    TensorSpec,
    alternatives_of,
    beside_of,
    inputs_of,
    outputs_of,
    to_outputs,
    top_k_outputs_of,
)
from service.protocols.problem import Problem, unavailable
from service.runtime import Runtime
from service.settings import Deployment

__all__ = ["GET_CODES", "MODEL", "VERSION", "InferenceService"]

GET_CODES = (200, 405, 500, 504)
READY_CODES = (200, 405, 500, 503, 504)
LARGE_JSON, LARGE_BODY = 65536, 4 * 1024 * 1024
SERVER = "guardhouse"
EXTENSIONS = ("binary_tensor_data",)
MODEL, VERSION = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
T = TypeVar("T")
Encode = Callable[[list[Output], v2.Inference, Runtime], T]


class InferenceService:
    """Answers for one model; ``runtime`` gives None until it is loaded, ``trouble`` says why it is not ready."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        runtime: Callable[[], Runtime | None],
        trouble: Callable[[], str | None],
    ) -> None:
        self.config, self.schema, self.classes = deployment.config, deployment.schema, deployment.classes
        self.groups = deployment.groups
        self._runtime, self.trouble = runtime, trouble
        self.metrics: Metrics

    @property
    def platform(self) -> str:
        """What runs the model."""
        return "pytorch_export" if self.config.model.program is not None else "pytorch_module"

    @property
    def inputs(self) -> list[TensorSpec]:
        """The tensors that make a request's rows."""
        return inputs_of(self.schema)

    @property
    def outputs(self) -> list[TensorSpec]:
        """The tensors that may be asked for."""
        return outputs_of(self.classes, self.config)

    async def infer(
        self,
        decode: Callable[[v2.Scope], v2.Inference],
        encode: Encode[T],
        *,
        deadline: float,
        large: bool,
    ) -> tuple[T, Action]:
        """Judge and predict the rows that ``decode`` reads; ``large`` ones are read beside the event loop.

        Raises:
            Problem: no rows can be made of the request, or they cannot be judged now.
        """
        runtime = self._runtime()
        if runtime is None:
            raise unavailable(self.trouble() or "the model is still loading", reason="loading", retry_after=2)
        runtime.check_room()
        started = time.perf_counter()
        groups = [monitor.request or "" for monitor in runtime.request_groups.values()]
        scope = v2.Scope(self.config, self.schema, self.classes, groups)
        inference = await asyncio.to_thread(decode, scope) if large else decode(scope)
        took(self.metrics, "decode", started)
        rows = inference.rows
        answer = await runtime.predict(rows.x, rows.groups, ids=rows.ids, deadline=deadline)
        started = time.perf_counter()

        def write() -> tuple[T, Action]:
            outputs, strictest = to_outputs(
                list(inference.outputs),
                answer,
                ids=rows.ids,
                classes=self.classes,
                config=self.config,
                top_k=inference.top_k,
            )
            return encode(outputs, inference, runtime), strictest

        written = await asyncio.to_thread(write) if answer.is_large else write()
        took(self.metrics, "encode", started)
        return written

    def routes(self) -> dict[str, Route]:
        """Map every exact path to its route; names are known, so that no template need be parsed."""
        routes = {
            "/v2": Route("/v2", {"GET": self._server}, GET_CODES),
            "/v2/health/live": Route("/v2/health/live", {"GET": self._live}, GET_CODES),
            "/v2/health/ready": Route("/v2/health/ready", {"GET": self._ready}, READY_CODES),
        }
        model = f"/v2/models/{self.config.name}"
        for path, template in ((model, MODEL), (f"{model}/versions/{self.config.version}", VERSION)):
            routes[path] = Route(template, {"GET": self._model}, GET_CODES)
            routes[f"{path}/ready"] = Route(f"{template}/ready", {"GET": self._model_ready}, READY_CODES)
            routes[f"{path}/infer"] = Route(f"{template}/infer", {"POST": self._infer}, POST_CODES, binary=True)
        return routes

    async def _server(self, _: Call) -> Reply:
        return _json({"name": SERVER, "version": __version__, "extensions": EXTENSIONS})

    async def _live(self, _: Call) -> Reply:
        return _json({"live": True})

    async def _ready(self, _: Call) -> Reply:
        self._check_ready()
        # The specification's text calls it live, its clients call it ready.
        return _json({"live": True, "ready": True})

    async def _model_ready(self, _: Call) -> Reply:
        self._check_ready()
        return _json({"name": self.config.name, "ready": True})

    def _check_ready(self) -> None:
        trouble = self.trouble()
        if trouble is not None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, trouble, headers={"Retry-After": "2"})

    async def _model(self, _: Call) -> Reply:
        return _json(
            {
                "name": self.config.name,
                "versions": [self.config.version],
                "platform": self.platform,
                "inputs": [_described(spec) for spec in self.inputs],
                "outputs": [_described(spec) for spec in self.outputs],
                # The metadata of the protocol have no word for an input that need not be there; its clients pass over
                # parameters that they do not know.
                "parameters": {
                    "alternatives": [list(map(_described, specs)) for specs in alternatives_of(self.schema)],
                    "optional": [_described(spec) for spec in beside_of(self.groups)],
                    "top_k": [_described(spec) for spec in top_k_outputs_of(self.classes)],
                },
            }
        )

    async def _infer(self, call: Call) -> Reply:
        given = call.headers.get(v2.HEADER_LENGTH.lower().encode())
        length = None if given is None else given.decode("latin-1").strip()
        head = call.body[: int(length)] if length is not None and v2.LENGTH.fullmatch(length) else call.body

        def encode(outputs: list[Output], inference: v2.Inference, runtime: Runtime) -> tuple[bytes, int | None]:
            return v2.encode(outputs, inference, self.config, runtime.bundle.id)

        (body, size), strictest = await self.infer(
            lambda scope: v2.decode(call.body, length, scope),
            encode,
            deadline=call.deadline,
            large=len(call.body) > (LARGE_JSON if length is None else LARGE_BODY) or may_hold_files(head, self.schema),
        )
        headers = {"X-Guardhouse-Action": strictest.label}
        if size is None:
            return Reply(body, headers=headers)
        return Reply(body, content_type=OCTETS, headers={**headers, v2.HEADER_LENGTH: str(size)})


def _described(spec: TensorSpec) -> Mapping[str, Any]:
    described = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    return {**described, "parameters": dict(spec.parameters)} if spec.parameters else described


def _json(document: object) -> Reply:
    return Reply(orjson.dumps(document), content_type=JSON)
