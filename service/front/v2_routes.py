"""The HTTP routes of the Open Inference Protocol v2, and what its HTTP and gRPC requests share."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import orjson

from guards.actions import Action
from guards.version import __version__
from service.front.dispatch import POST_CODES
from service.front.http import JSON, OCTETS, Call, Reply, Route
from service.front.prediction import Asked, Prediction
from service.front.protocols import v2
from service.front.protocols.images import may_hold_files
from service.front.protocols.v2_known_heads import KnownHeads
from service.front.protocols.v2_outputs import (
    P_VALUE,
    Output,
    TensorSpec,
    alternatives_of,
    beside_of,
    inputs_of,
    outputs_of,
    top_k_outputs_of,
)
from service.front.readiness import Readiness
from service.messages.answer import Answer
from service.messages.served_model import ServedModel

__all__ = ["CODES", "GET_CODES", "MODEL", "VERSION", "V2Routes", "asked"]

T = TypeVar("T")
HEADER_LENGTH = v2.HEADER_LENGTH.lower().encode()

GET_CODES = (200, 405, 500, 504)
READY_CODES = (200, 405, 500, 503, 504)
LARGE_JSON, LARGE_BODY = 65536, 4 * 1024 * 1024
"""The largest bodies, in bytes, that are decoded without a thread: JSON alone, and JSON followed by binary data."""
SERVER = "guardhouse"
EXTENSIONS = ("binary_tensor_data",)
MODEL, VERSION = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
SERVER_CODES: Mapping[str, tuple[int, ...]] = {
    "/v2": GET_CODES,
    "/v2/health/live": GET_CODES,
    "/v2/health/ready": READY_CODES,
}
MODEL_CODES: Mapping[str, tuple[int, ...]] = {"": GET_CODES, "/ready": READY_CODES, "/infer": POST_CODES}
CODES = {**SERVER_CODES, **{f"{path}{end}": codes for path in (MODEL, VERSION) for end, codes in MODEL_CODES.items()}}
"""The status codes of each route, by its template."""


class V2Routes:
    """The v2 routes of the served model."""

    def __init__(self, served: ServedModel, *, readiness: Readiness, prediction: Prediction) -> None:
        self._served, self._readiness, self._prediction = served, readiness, prediction
        self._heads = KnownHeads(served)

    def routes(self) -> dict[str, Route]:
        """Return the route of every exact path. The model's name is known, so no template is matched per request."""
        server = {"/v2": self._server, "/v2/health/live": self._live, "/v2/health/ready": self._ready}
        routes = {
            path: Route(path, {"GET": handler}, CODES[path], needs="a key" if path == "/v2" else "nothing")
            for path, handler in server.items()
        }
        for template in (MODEL, VERSION):
            path = template.replace("{name}", self._served.name).replace("{version}", self._served.version)
            ready, infer = f"{template}/ready", f"{template}/infer"
            routes[path] = Route(template, {"GET": self._model}, CODES[template])
            routes[f"{path}/ready"] = Route(ready, {"GET": self._model_ready}, CODES[ready], needs="nothing")
            routes[f"{path}/infer"] = Route(
                infer, {"POST": self._infer}, CODES[infer], binary=True, direct=True, needs="predict"
            )
        return routes

    async def _server(self, _: Call) -> Reply:
        return _json({"name": SERVER, "version": __version__, "extensions": EXTENSIONS})

    async def _live(self, _: Call) -> Reply:
        return _json({"live": True})

    async def _ready(self, _: Call) -> Reply:
        self._readiness.check()
        # The text of the specification has the key `live`, but clients read the key `ready`.
        return _json({"live": True, "ready": True})

    async def _model_ready(self, _: Call) -> Reply:
        self._readiness.check()
        return _json({"name": self._served.name, "ready": True})

    async def _model(self, _: Call) -> Reply:
        served = self._served
        return _json(
            {
                "name": served.name,
                "versions": [served.version],
                "platform": served.platform,
                "inputs": [_described(spec) for spec in inputs_of(served.rows)],
                "outputs": [_described(spec) for spec in outputs_of(served)],
                # The protocol's metadata cannot mark an input as optional. Clients ignore unknown parameters, so the
                # optional tensors are listed there.
                "parameters": {
                    "alternatives": [list(map(_described, specs)) for specs in alternatives_of(served.rows)],
                    "optional": [_described(spec) for spec in beside_of(sorted(served.groups))],
                    "top_k": [_described(spec) for spec in top_k_outputs_of(served.classes)],
                },
            }
        )

    async def _infer(self, call: Call) -> Reply:
        given = call.headers.get(HEADER_LENGTH)
        length = None if given is None else given.decode("latin-1").strip()
        head = call.body[: int(length)] if length is not None and v2.LENGTH.fullmatch(length) else call.body
        large = len(call.body) > (LARGE_JSON if length is None else LARGE_BODY)
        slow = large or may_hold_files(head, self._served.rows)
        predicted = await self._prediction.predict(
            partial(self._read_in_thread if slow else self._read, call.body, length), deadline=call.deadline, slow=slow
        )
        body, size = predicted.body
        if size is None:
            return Reply(body, headers=predicted.headers)
        return Reply(body, content_type=OCTETS, headers={**predicted.headers, v2.HEADER_LENGTH: str(size)})

    def _read(self, body: bytes, header_length: str | None) -> Asked[tuple[bytes, int | None]]:
        return asked(self._heads.decode(body, header_length), v2.encode)

    def _read_in_thread(self, body: bytes, header_length: str | None) -> Asked[tuple[bytes, int | None]]:
        """Decode a slow request: only the event loop's thread may use the known heads."""
        return asked(v2.decode(body, header_length, self._served), v2.encode)


def asked(inference: v2.Inference, write: Callable[[list[Output], v2.Inference], T]) -> Asked[T]:
    """Pair the rows of a decoded request with the encoding of its answer; ``write`` encodes for one transport."""

    def encode(answer: Answer) -> tuple[T, Action]:
        outputs, strictest = inference.tensors(answer)
        return write(outputs, inference), strictest

    return Asked(inference.rows, encode, detail=P_VALUE in inference.outputs)


def _described(spec: TensorSpec) -> Mapping[str, Any]:
    described = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    return {**described, "parameters": dict(spec.parameters)} if spec.parameters else described


def _json(document: object) -> Reply:
    return Reply(orjson.dumps(document), content_type=JSON)
