"""The ASGI application in front of BentoML's: it owns every HTTP path, loads the model, and drains at the end."""

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.http import Message, Receive, Send
from service.listening import inherited, refuse, take_no_more
from service.presence import Notice, Presence, Process

if TYPE_CHECKING:
    from service.cors import Cors
    from service.explaining import Explaining
    from service.limits import Limits
    from service.rpc import RpcServer
    from service.runtime import Runtime
    from service.tracing import Tracing

__all__ = ["Door"]

LOG = logging.getLogger("guardhouse")
SCHEMA = "/schema.json"
ANYWHERE = "0.0.0.0"  # noqa: S104 - a pod's
WEBSOCKET_REFUSED = 1008
DRAIN_SECONDS = 1.0
"""How long readiness says no before connections are refused: the time a load balancer takes to notice."""
QUEUE_SECONDS, LAST_SECONDS = 0.1, 0.6
"""How long connections in the queue have to be taken, and those taken last to send their request, before the end."""


class Door:
    """Answers HTTP itself; BentoML's application behind it gets the lifespan and its own schema alone."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - any ASGI application
        self.app = app
        self.limits: Limits | Cors | None = None
        self.runtime: Runtime | None = None
        self.explaining: Explaining | None = None
        self.rpc: RpcServer | None = None
        self.tracing: Tracing | None = None
        self.draining = False
        self.failure: str | None = None
        self._stopping_soon = False
        self._drained_at = 0.0
        self._notice: Notice | None = None
        self._stopping: asyncio.Future[None] | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": WEBSOCKET_REFUSED})
        elif scope["path"] == SCHEMA and scope["method"] == "GET":
            await self.app(scope, receive, send)
        elif self.limits is not None:
            await self.limits(scope, receive, send)

    def trouble(self) -> str | None:
        """Say why no prediction can be had, or None where it can."""
        if self.draining:
            return "the server is shutting down"
        if self.failure is not None:
            return self.failure
        return "the model is still loading" if self.runtime is None else None

    async def _lifespan(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        async def hear() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
            else:
                await self._stop()
            return message

        try:
            await self.app(scope, hear, send)
        except Exception as failure:  # noqa: BLE001 - uvicorn would serve on without a lifespan
            LOG.critical("start-up failed: %s", failure)
            os.kill(os.getppid(), signal.SIGTERM)  # BentoML's supervisor would start us again for ever
            await send({"type": "lifespan.startup.failed", "message": str(failure)})

    async def start(self) -> None:
        """Read settings and config, open every route, and load the model in a thread.

        Raises:
            Mistake: settings, config or bundle cannot be read, or the port for gRPC is taken.
        """
        # Imported here: the supervisor and `bentoml build` import this module and need none of it.
        from service import memory, turns  # noqa: PLC0415
        from service.cors import Cors  # noqa: PLC0415
        from service.exchange import Exchanges  # noqa: PLC0415
        from service.limits import Limits  # noqa: PLC0415
        from service.logs import configure  # noqa: PLC0415
        from service.routing import Routing  # noqa: PLC0415
        from service.settings import Deployment, Settings  # noqa: PLC0415
        from service.tracing import Tracing  # noqa: PLC0415

        memory.keep()
        turns.shorten()
        settings = Settings.from_environment()
        configure(settings.log_level)
        deployment = Deployment.read(settings)
        config = deployment.config
        routing = Routing.of(deployment, runtime=lambda: self.runtime, trouble=self.trouble)
        metrics, self.explaining = routing.metrics, routing.explaining
        self.tracing = Tracing.from_environment(model=config.name, version=config.version)
        exchanges = Exchanges(metrics, self.tracing)
        self.limits = limits = Limits(
            routing.routes,
            exchanges,
            max_body_bytes=config.server.max_body_bytes,
            timeout_seconds=config.server.timeout_seconds,
            closing=lambda: self.draining,
        )
        if config.server.cors is not None:
            self.limits = Cors(limits, config.server.cors, exchanges)
        if config.server.grpc_port is not None:
            from service.rpc import RpcServer  # noqa: PLC0415 - needs grpcio, which HTTP does not

            self.rpc = RpcServer(routing.inference, exchanges)
            await self.rpc.start(_address()[0], config.server.grpc_port)
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=self._load, args=(settings, deployment.deployed, metrics, loop), name="load", daemon=True
        ).start()
        if threading.current_thread() is threading.main_thread():
            leave = signal.getsignal(signal.SIGTERM)  # uvicorn's own, which stops at once
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(self._stop_soon, leave))
            signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(self._drain))
            self._notice = Notice(_presence(), settings.state_folder)

    def _load(self, settings: Any, deployed: Any, metrics: Any, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ANN401
        from guards.types import Mistake  # noqa: PLC0415
        from service.runtime import Runtime, load  # noqa: PLC0415

        try:
            runtime = Runtime(
                load(settings.bundle, settings.config, deployed),
                metrics,
                state=settings.state_folder,
                database=settings.database_url,
            )
        except Mistake as mistake:
            self.failure = f"the model cannot be served: {mistake}"
            LOG.critical("%s", self.failure)
        except Exception as failure:
            self.failure = f"the model cannot be served: {type(failure).__name__}; the log says where"
            LOG.critical("%s", self.failure, exc_info=failure)
        else:
            loop.call_soon_threadsafe(self._open, runtime, settings.redis_url)

    def _open(self, runtime: "Runtime", redis_url: str | None) -> None:
        runtime.start()
        if self.explaining is not None:
            self.explaining.start(runtime, redis_url)
        self.runtime = runtime
        LOG.info("serving %s %s, bundle %s", runtime.config.name, runtime.config.version, runtime.bundle.id)

    def _drain(self) -> None:
        """Withdraw from service, and go on answering."""
        if self.draining:
            return
        self.draining = True
        self._drained_at = asyncio.get_running_loop().time()
        LOG.info("draining: readiness is withdrawn, connections are closed after their answer")
        if self._notice is not None:
            self._notice.drains()

    def _stop_soon(self, leave: Any) -> None:  # noqa: ANN401 - a signal handler
        """Leave once load balancers have had the time to notice; they may have had it before."""
        if self._stopping_soon:
            return
        self._stopping_soon = True
        self._drain()
        loop = asyncio.get_running_loop()
        loop.call_at(self._drained_at + DRAIN_SECONDS, self._leave, leave)

    def _leave(self, leave: Any) -> None:  # noqa: ANN401
        """Refuse new connections, and let uvicorn and gRPC finish what is in flight."""
        loop = asyncio.get_running_loop()
        listening = inherited()
        if listening is not None:  # the supervisor holds it too: connections would hang, not fail
            take_no_more(listening)
            loop.call_later(QUEUE_SECONDS, refuse, listening)
        self._stopping = asyncio.ensure_future(self._stop_rpc())
        if callable(leave):
            loop.call_later(LAST_SECONDS, leave, signal.SIGTERM, None)

    async def _stop(self) -> None:
        await self._stop_rpc()
        if self.explaining is not None:
            await self.explaining.close()
        if self.runtime is not None:
            await self.runtime.close()
        if self.tracing is not None:
            await self.tracing.close()
        if self._notice is not None:
            self._notice.remove()

    async def _stop_rpc(self) -> None:
        if self.rpc is not None:
            await self.rpc.stop()


def _address() -> tuple[str, int]:
    """Tell where HTTP is served; port 0 where nothing was handed down."""
    listening = inherited()
    if listening is None:
        return ANYWHERE, 0
    with listening:
        if listening.family not in (socket.AF_INET, socket.AF_INET6):
            return ANYWHERE, 0
        host, port, *_ = listening.getsockname()
        return str(host), int(port)


def _presence() -> Presence:
    """Describe this server: the process that handed its socket down supervises it."""
    port, here = _address()[1], Process.of(os.getpid())
    return Presence(port, here, Process.of(os.getppid()) if port else here)
