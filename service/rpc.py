"""The Open Inference Protocol's gRPC service, on the same event loop and before the same batcher as HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import grpc

from guards.bundle import __version__
from guards.types import Action, Mistake
from service.exchange import Exchanges
from service.inference import EXTENSIONS, SERVER, InferenceService
from service.limits import known_or_new, log_fault
from service.protocols import grpc_predict_v2_pb2 as messages
from service.protocols import v2_grpc
from service.protocols.problem import Problem, deadline_passed, fault_of_ours
from service.tracing import GRPC

__all__ = ["RPC_ROUTES", "RpcServer"]

SERVICE = "inference.GRPCInferenceService"
CANCELLED = 499
"""What the metrics call a request whose client went away; HTTP has no code for it, and proxies use this one."""
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
CODES = (200, *map(int, STATUS), CANCELLED)
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
RPC_ROUTES = {f"grpc:{method}": CODES for method in METHODS}
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
        ]
        self._server = grpc.aio.server(options=options)
        methods: tuple[Method, ...] = (
            self._live, self._ready, self._model_ready, self._metadata, self._model, self._infer,
        )  # fmt: skip
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._handler(f"grpc:{name}", method))
            for name, method in zip(METHODS, methods, strict=True)
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

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
        await self._server.stop(self.config.server.timeout_seconds)

    def _handler(self, route: str, method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(body: bytes, context: Any) -> bytes:  # noqa: ANN401 - gRPC's context
            fields = context.invocation_metadata() or ()
            request_id = known_or_new(str(dict(fields).get("x-request-id", "")).encode())
            trailing: Metadata = [("x-request-id", request_id)]
            left = context.time_remaining()
            seconds = min(self.config.server.timeout_seconds, float("inf") if left is None else left)
            deadline = asyncio.get_running_loop().time() + seconds
            code, problem = CANCELLED, None
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
                code = CANCELLED if asyncio.get_running_loop().time() < deadline else int(HTTPStatus.GATEWAY_TIMEOUT)
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

    async def _live(self, *_: object) -> bytes:
        return _written(messages.ServerLiveResponse(live=True))

    async def _ready(self, *_: object) -> bytes:
        return _written(messages.ServerReadyResponse(ready=self.inference.trouble() is None))

    async def _model_ready(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelReadyRequest", body)
        v2_grpc.known(request.name, request.version, self.config)
        return _written(messages.ModelReadyResponse(ready=self.inference.trouble() is None))

    async def _metadata(self, *_: object) -> bytes:
        return _written(messages.ServerMetadataResponse(name=SERVER, version=__version__, extensions=EXTENSIONS))

    async def _model(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelMetadataRequest", body)
        v2_grpc.known(request.name, request.version, self.config)
        tensor = messages.ModelMetadataResponse.TensorMetadata
        inference = self.inference
        inputs, outputs = (
            [tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs]
            for specs in (inference.inputs, inference.outputs)
        )
        return _written(
            messages.ModelMetadataResponse(
                name=self.config.name,
                versions=[self.config.version],
                platform=inference.platform,
                inputs=inputs,
                outputs=outputs,
            )
        )

    async def _infer(self, body: bytes, request_id: str, deadline: float, trailing: Metadata) -> bytes:
        written, strictest = await self.inference.infer(
            lambda scope: v2_grpc.decode(v2_grpc.parse("ModelInferRequest", body), scope),
            lambda outputs, inference, runtime: v2_grpc.encode(outputs, inference, self.config, runtime.bundle.id),
            request_id=request_id,
            deadline=deadline,
            large=len(body) > LARGE_MESSAGE or (self.inference.schema.kind == "image" and b"BYTES" in body),
        )
        trailing.append(("x-guardhouse-action", Action(strictest).label))
        return written


def _written(message: Any) -> bytes:  # noqa: ANN401 - a message
    written: bytes = message.SerializeToString()
    return written
