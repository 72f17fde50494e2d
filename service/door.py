"""The ASGI application in front of BentoML's: it owns every HTTP path, loads the model, and drains at the end."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.closing import Step, close_all, optional
from service.http import Message, Receive, Send
from service.listening import inherited, listen
from service.presence import Notice, Presence, Process
from service.shutdown import Shutdown
from service.supervisor import supervisor, tell_to_stop

if TYPE_CHECKING:
    from service.cors import Cors
    from service.explaining import Explaining
    from service.limits import Limits
    from service.rpc import RpcServer
    from service.runtime import Runtime
    from service.tracing import Tracing
    from service.wire import StrictProtocol

__all__ = ["Door"]

LOG = logging.getLogger("guardhouse")
SCHEMA = "/schema.json"
ANYWHERE = "0.0.0.0"  # noqa: S104 - a pod's
CLOSE_SECONDS = 5.0
"""How long a part of the server may take to be closed, unless it says otherwise itself."""


class Door:
    """Answers HTTP itself; BentoML's application behind it gets the lifespan and its own schema alone."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - any ASGI application
        self.app = app
        self.limits: Limits | Cors | None = None
        self.runtime: Runtime | None = None
        self.explaining: Explaining | None = None
        self.rpc: RpcServer | None = None
        self.tracing: Tracing | None = None
        self.connections: set[StrictProtocol] = set()
        self.keep_alive_seconds = 0.0
        self.failure: str | None = None
        self.shutdown: Shutdown | None = None
        self._notice: Notice | None = None

    @property
    def draining(self) -> bool:
        """Whether the server takes its leave."""
        return self.shutdown is not None and self.shutdown.draining

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
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
                scope["state"].update(keep_alive_seconds=self.keep_alive_seconds, connections=self.connections)
            elif self.shutdown is not None:
                await self.shutdown.close()
            return message

        try:
            await self.app(scope, hear, send)
        except Exception as failure:  # noqa: BLE001 - uvicorn would serve on without a lifespan
            LOG.critical("start-up failed: %s", failure)
            tell_to_stop()  # BentoML's supervisor would start us again for ever
            await send({"type": "lifespan.startup.failed", "message": str(failure)})

    async def start(self) -> None:
        """Read settings and config, open every route, and load the model in a thread.

        Raises:
            Mistake: settings, config or bundle cannot be read, or a port is taken.
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
        self.keep_alive_seconds = config.server.keep_alive_seconds
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
        memory.settle()  # before anybody is answered: once more, for what is loaded in the meantime, it is short
        _listen()
        self.shutdown = Shutdown(
            request_seconds=config.server.timeout_seconds,
            announce=self._announce,
            close_idle=self._close_idle,
            finish=self._stop_rpc,
            close=self._close,
        )
        loop = asyncio.get_running_loop()
        self.shutdown.listen(loop)
        with optional("`guardhouse drain` will not find this server"):
            self._notice = Notice(_presence(), settings.state_folder)
        threading.Thread(
            target=self._load, args=(settings, deployment.deployed, metrics, loop), name="load", daemon=True
        ).start()

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
        except Exception as failure:  # noqa: BLE001 - the log says where
            self._fail(failure)
        else:
            loop.call_soon_threadsafe(self._open, runtime, settings.redis_url)

    def _open(self, runtime: "Runtime", redis_url: str | None) -> None:
        try:
            runtime.start()
            if self.explaining is not None:
                self.explaining.start(runtime, redis_url)
        except Exception as failure:  # noqa: BLE001 - readiness would say "loading" for ever
            self._fail(failure)
            return
        self.runtime = runtime
        LOG.info("serving %s %s, bundle %s", runtime.config.name, runtime.config.version, runtime.bundle.id)

    def _fail(self, failure: Exception) -> None:
        self.failure = f"the model cannot be served: {type(failure).__name__}; the log says where"
        LOG.critical("%s", self.failure, exc_info=failure)

    def _announce(self) -> None:
        if self._notice is not None:
            self._notice.drains()

    def _close_idle(self) -> None:
        """Close the connections without a request."""
        for connection in tuple(self.connections):
            connection.shutdown()

    async def _stop_rpc(self) -> None:
        if self.rpc is not None:
            await self.rpc.stop()

    async def _close(self) -> None:
        steps = []
        if self.rpc is not None:
            steps.append(Step("gRPC", self.rpc.config.server.timeout_seconds + CLOSE_SECONDS, self.rpc.stop))
        if self.explaining is not None:
            steps.append(Step("the process that explains", CLOSE_SECONDS, self.explaining.close))
        if self.runtime is not None:
            steps += self.runtime.closing()
        if self.tracing is not None:
            steps.append(Step("tracing", CLOSE_SECONDS, self.tracing.close))
        await close_all(*steps)
        if self._notice is not None:
            with optional("the file by which `guardhouse drain` finds a server remains"):
                self._notice.remove()


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


def _listen() -> None:
    from guards.types import Mistake  # noqa: PLC0415 - imports torch

    try:
        listen()
    except OSError as taken:
        raise Mistake("port {1} of {0}: cannot listen there ({2})".format(*_address(), taken.strerror)) from None


def _presence() -> Presence:
    """Describe this server, and the process that supervises it."""
    here = Process.of(os.getpid())
    above = supervisor()
    return Presence(_address()[1], here, here if above is None else Process.of(above))
