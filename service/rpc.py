"""The Open Inference Protocol's gRPC service, on the same event loop and before the same batcher as HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from guards.bundle import __version__
from guards.types import Action, Mistake
from service.exchange import CLIENT_LEFT, Exchanges
from service.grpc_streams import HEALTH, REFLECTION, SERVICE, Health, reflect, written
from service.inference import EXTENSIONS, SERVER, InferenceService
from service.limits import log_fault
from service.protocols import grpc_predict_v2_pb2 as messages
from service.protocols import v2_grpc
from service.protocols.problem import Problem, deadline_passed, fault_of_ours
from service.request_id import known_or_new
from service.tracing import GRPC
from service.triton import Triton, read_only

__all__ = ["RPC_ROUTES", "RpcServer"]

MAX_STREAMS = 64
"""Calls that go on for as long as the client likes: watches of health, and reflection."""
PINGS = [
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 2),
]
"""Clients that keep a connection alive by a ping every few seconds, as most do, are not turned away for it.

gRPC's guide has the second as ``min_recv_ping_interval_without_data_ms``; its core passes over that name.
"""
LARGE_MESSAGE = 65536
MAX_DETAILS = 2000
"""Bytes. They are sent as metadata, %-encoded to up to three times as many, of which clients take 8 KiB."""
STATUS = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What each problem is called here."""
CODES = (200, *map(int, STATUS), CLIENT_LEFT)
METHODS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
    "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
)  # fmt: skip
CHECK, WATCH, REFLECT = "grpc:HealthCheck", "grpc:HealthWatch", "grpc:Reflection"
RPC_ROUTES = dict.fromkeys((*(f"grpc:{method}" for method in METHODS), CHECK, WATCH, REFLECT), CODES)
Metadata = list[tuple[str, str]]
Method = Callable[[bytes, str, float, Metadata], Awaitable[bytes]]


class RpcServer:
    """Speaks the protocol on a port of its own; every call is bounded, counted and answered as HTTP's are."""

    def __init__(self, inference: InferenceService, exchanges: Exchanges) -> None:
        self.inference, self.exchanges, self.config = inference, exchanges, inference.config
        size = self.config.server.max_body_bytes
        # Two servers must not share a port: half of the calls would go to either.
        options = [
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            *PINGS,
        ]
        self._server = grpc.aio.server(options=options)
        self._triton, self._health, self._streams = Triton(inference), Health(inference.trouble), 0
        methods: tuple[Method, ...] = (
            self._live, self._ready, self._model_ready, self._metadata, self._model, self._infer,
            self._config, self._statistics, self._index, self._change, self._change,
        )  # fmt: skip
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._handler(f"grpc:{name}", method))
            for name, method in zip(METHODS, methods, strict=True)
        }
        health = {
            "Check": grpc.unary_unary_rpc_method_handler(self._handler(CHECK, self._health.check)),
            "Watch": grpc.unary_stream_rpc_method_handler(self._stream(WATCH, self._health.watch)),
        }
        reflection = {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._stream(REFLECT, reflect)),
        }
        services = {SERVICE: handlers, HEALTH: health, **dict.fromkeys(REFLECTION, reflection)}
        self._server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, each) for name, each in services.items())
        )

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            Mistake: the port is taken.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server.add_insecure_port(address)
        except RuntimeError:
            raise Mistake(f"server.grpc_port: cannot listen on {address}; choose another port") from None
        await self._server.start()

    async def stop(self) -> None:
        """Take no more calls, and finish those in flight."""
        self._health.close()
        await self._server.stop(self.config.server.timeout_seconds)

    def _handler(self, route: str, method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(body: bytes, context: Any) -> bytes:  # noqa: ANN401 - gRPC's context
            fields = context.invocation_metadata() or ()
            request_id = known_or_new(str(dict(fields).get("x-request-id", "")).encode())
            trailing: Metadata = [("x-request-id", request_id)]
            left = context.time_remaining()
            seconds = min(self.config.server.timeout_seconds, float("inf") if left is None else left)
            deadline = asyncio.get_running_loop().time() + seconds
            code, problem = CLIENT_LEFT, None
            exchange = self.exchanges.begin(route, GRPC, request_id, fields)
            try:
                async with asyncio.timeout_at(deadline):
                    answer = await method(body, request_id, deadline, trailing)
                code = int(HTTPStatus.OK)
            except Problem as told:
                problem = told
            except TimeoutError:
                problem = deadline_passed()
            except asyncio.CancelledError:
                code = CLIENT_LEFT if asyncio.get_running_loop().time() < deadline else int(HTTPStatus.GATEWAY_TIMEOUT)
                raise
            except Exception as fault:  # noqa: BLE001 - this is the layer that catches everything
                log_fault(fault, request_id)
                problem = fault_of_ours()
            finally:
                self.exchanges.end(exchange, code if problem is None else int(problem.status))
            if problem is None:
                context.set_trailing_metadata(tuple(trailing))
                return answer
            if problem.reason is not None:
                self.exchanges.metrics.shed.add(problem.reason)
            trailing += [(name.lower(), value) for name, value in problem.headers.items()]
            details = problem.sentence.encode()[:MAX_DETAILS].decode(errors="ignore")
            return await context.abort(STATUS[problem.status], details, tuple(trailing))  # type: ignore[no-any-return]

        return handle

    def _stream(self, route: str, method: Callable[[Any], AsyncIterator[bytes]]) -> Callable[..., AsyncIterator[bytes]]:
        async def handle(asked: Any, context: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - bytes, or many of them
            code = CLIENT_LEFT
            self._streams += 1
            try:
                if self._streams > MAX_STREAMS:
                    raise Problem(HTTPStatus.TOO_MANY_REQUESTS, f"{MAX_STREAMS} such calls are open already")  # noqa: TRY301
                async for answer in method(asked):
                    yield answer
                code = int(HTTPStatus.OK)
            except Problem as problem:
                code = int(problem.status)
                await context.abort(STATUS[problem.status], problem.sentence)
            except Exception as fault:  # noqa: BLE001 - this is the layer that catches everything
                code = int(HTTPStatus.INTERNAL_SERVER_ERROR)
                log_fault(fault, "of a stream")
                await context.abort(grpc.StatusCode.INTERNAL, fault_of_ours().sentence)
            finally:
                self._streams -= 1
                self.exchanges.metrics.requests.add(route, str(code))

        return handle

    async def _live(self, *_: object) -> bytes:
        return written(messages.ServerLiveResponse(live=True))

    async def _ready(self, *_: object) -> bytes:
        return written(messages.ServerReadyResponse(ready=self.inference.trouble() is None))

    async def _model_ready(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelReadyRequest", body)
        v2_grpc.known(request.name, request.version, self.config)
        return written(messages.ModelReadyResponse(ready=self.inference.trouble() is None))

    async def _metadata(self, *_: object) -> bytes:
        return written(messages.ServerMetadataResponse(name=SERVER, version=__version__, extensions=EXTENSIONS))

    async def _model(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelMetadataRequest", body)
        v2_grpc.known(request.name, request.version, self.config)
        tensor = messages.ModelMetadataResponse.TensorMetadata
        inference = self.inference
        inputs, outputs = (
            [tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs]
            for specs in (inference.inputs, inference.outputs)
        )
        return written(
            messages.ModelMetadataResponse(
                name=self.config.name,
                versions=[self.config.version],
                platform=inference.platform,
                inputs=inputs,
                outputs=outputs,
            )
        )

    async def _config(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelConfigRequest", body)
        v2_grpc.known(request.name, request.version, self.config)
        return written(ParseDict({"config": self._triton.model_config()}, messages.ModelConfigResponse()))

    async def _statistics(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelStatisticsRequest", body)
        v2_grpc.known(request.name or self.config.name, request.version, self.config)
        return written(ParseDict(self._triton.statistics(), messages.ModelStatisticsResponse()))

    async def _index(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("RepositoryIndexRequest", body)
        models = self._triton.index(ready=request.ready)
        return written(ParseDict({"models": models}, messages.RepositoryIndexResponse()))

    async def _change(self, *_: object) -> bytes:
        raise read_only()

    async def _infer(self, body: bytes, _: str, deadline: float, trailing: Metadata) -> bytes:
        answer, strictest = await self.inference.infer(
            lambda scope: v2_grpc.decode(v2_grpc.parse("ModelInferRequest", body), scope),
            lambda outputs, inference, runtime: v2_grpc.encode(outputs, inference, self.config, runtime.bundle.id),
            deadline=deadline,
            large=len(body) > LARGE_MESSAGE or (self.inference.schema.kind == "image" and b"BYTES" in body),
        )
        trailing.append(("x-guardhouse-action", Action(strictest).label))
        return answer
