"""The gRPC service of the Open Inference Protocol; it shares the event loop and the engine with HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import grpc

from guards.errors import Mistake
from service.front.admission import Admission
from service.front.calling_connections import CallingConnections
from service.front.deadlines import Deadlines
from service.front.faults import problem_of
from service.front.grpc_admission import CALLER, CallAdmission
from service.front.grpc_methods import Method, RpcMethods
from service.front.grpc_options import grpc_options
from service.front.grpc_receiving import Reception
from service.front.grpc_routes import CHECK, NEEDS, PROBES, REFLECT, ROUTE_OF, STATUS, WATCH, Metadata, refuse
from service.front.grpc_standard_services import HEALTH, REFLECTION, SERVICE, Health, reflect
from service.front.memory_room import BODIES
from service.front.prediction import Prediction
from service.front.protocols.problem import Problem
from service.front.readiness import Readiness
from service.front.request_id import known_or_new
from service.front.triton_routes import Triton
from service.messages.served_model import ServedModel
from service.telemetry.request_record import CLIENT_LEFT, Exchange, Exchanges
from service.telemetry.tracing import GRPC

__all__ = ["RpcServer"]

MAX_STREAMS = 64
"""The most open streams: watches of health, and reflection. A client may keep a stream open as long as it likes."""


class RpcServer:
    """Serves gRPC on its own port; the limits, counters and errors of a call are the same as over HTTP."""

    def __init__(
        self,
        served: ServedModel,
        *,
        readiness: Readiness,
        prediction: Prediction,
        triton: Triton,
        exchanges: Exchanges,
        admission: Admission | None = None,
        share_port: bool = False,
    ) -> None:
        """Answer calls once started; ``share_port`` if other fronts of this server listen on the same port.

        Without ``admission`` every caller may enter.
        """
        self.served, self.exchanges = served, exchanges
        self._admission = admission
        inside = [] if admission is None else [CallAdmission(admission, NEEDS, self._refuse)]
        options = grpc_options(served.server, share_port=share_port)
        self._server = grpc.aio.server(options=options, interceptors=inside)
        self._health, self._streams, self._reception = Health(readiness.trouble), 0, Reception()
        self._deadlines, self._calling = Deadlines(), CallingConnections()
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(self._handler(f"grpc:{name}", method))
            for name, method in RpcMethods(served, readiness, prediction, triton).by_name().items()
        }
        health = {
            "Check": grpc.stream_unary_rpc_method_handler(self._handler(CHECK, self._health.check)),
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
        """Listen for calls.

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
        """Take no more calls, and finish the calls in flight."""
        self._health.close()
        await self._server.stop(self.served.server.timeout_seconds)

    def _handler(self, route: str, method: Method) -> Callable[..., Awaitable[bytes]]:
        """Make the handler of a method. It takes a stream, because gRPC would receive a single message at once."""

        async def answered(context: Any, request_id: str, deadline: float, trailing: Metadata) -> bytes:  # noqa: ANN401
            # No other frame holds the message, so the message is gone before a refusal is written.
            message = await self._reception.receive(context, probe=route in PROBES)
            with BODIES.held(len(message)):
                return await method(message, request_id, deadline, trailing)

        async def handle(_: Any, context: Any) -> bytes:  # noqa: ANN401 - gRPC's own
            fields = context.invocation_metadata() or ()
            request_id = _request_id(fields)
            trailing: Metadata = [("x-request-id", request_id)]
            left = context.time_remaining()
            seconds = min(self.served.server.timeout_seconds, float("inf") if left is None else left)
            deadline = asyncio.get_running_loop().time() + seconds
            code, problem = CLIENT_LEFT, None
            exchange = self.exchanges.begin(route, GRPC, request_id, fields)
            exchange.principal, exchange.client = CALLER.get(), address_of(context.peer())
            try:
                with self._calling.call(context.peer()) as connection, self._deadlines.until(deadline):
                    if self._admission is not None:
                        await self._admission.charge(exchange, connection)
                    answer = await answered(context, request_id, deadline, trailing)
                code = int(HTTPStatus.OK)
            except asyncio.CancelledError:
                code = CLIENT_LEFT if asyncio.get_running_loop().time() < deadline else int(HTTPStatus.GATEWAY_TIMEOUT)
                raise
            except Exception as fault:  # noqa: BLE001 - this is the layer that catches everything
                problem = problem_of(fault, request_id)
            finally:
                self.exchanges.end(exchange, code if problem is None else int(problem.status))
            if problem is None:
                context.set_trailing_metadata(tuple(trailing))
                return answer
            if problem.reason is not None:
                self.exchanges.metrics.shed.add(problem.reason)
            return refuse(context, problem, trailing)

        return handle

    async def _refuse(self, path: str, problem: Problem, context: Any) -> bytes:  # noqa: ANN401 - gRPC's context
        """End a call that may not enter; calls of paths that do not exist are not counted, as for every caller."""
        fields = context.invocation_metadata() or ()
        request_id = _request_id(fields)
        if (route := ROUTE_OF.get(path)) is not None:
            exchange = self.exchanges.begin(route, GRPC, request_id, fields)
            exchange.principal = CALLER.get()
            self.exchanges.end(exchange, int(problem.status))
        return refuse(context, problem, [("x-request-id", request_id)])

    def _stream(self, route: str, method: Callable[[Any], AsyncIterator[bytes]]) -> Callable[..., AsyncIterator[bytes]]:
        async def handle(asked: Any, context: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - bytes, or many of them
            code = CLIENT_LEFT
            self._streams += 1
            try:
                if self._streams > MAX_STREAMS:
                    raise Problem(HTTPStatus.TOO_MANY_REQUESTS, f"{MAX_STREAMS} such calls are open already")  # noqa: TRY301
                with self._calling.call(context.peer()) as connection:
                    if self._admission is not None:
                        exchange = Exchange(route, GRPC, "", (), principal=CALLER.get())
                        await self._admission.charge(exchange, connection)
                    async for answer in method(asked):
                        yield answer
                code = int(HTTPStatus.OK)
            except Exception as fault:  # noqa: BLE001 - this is the layer that catches everything
                problem = problem_of(fault, "of a stream")
                code = int(problem.status)
                if problem.reason is not None:
                    self.exchanges.metrics.shed.add(problem.reason)
                await context.abort(STATUS[problem.status], problem.sentence)
            finally:
                self._streams -= 1
                self.exchanges.metrics.requests.add(route, str(code))

        return handle


def address_of(peer: str) -> str:
    """Return the address in gRPC's name of a peer, such as ``ipv4:192.0.2.1:4711`` or ``ipv6:%5B::1%5D:4711``."""
    return unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]")


def _request_id(fields: Any) -> str:  # noqa: ANN401 - gRPC's metadata
    """Return the caller's id of a call if it is valid; otherwise generate an id."""
    return known_or_new(str(dict(fields).get("x-request-id", "")).encode())
