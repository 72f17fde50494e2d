"""A front's process: its routes, its connections and its client of the engine, and how they start and end."""

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from guards.errors import Mistake
from service import memory
from service.closing import Step, close_all, optional
from service.explain.routes import CODES as EXPLAIN_CODES
from service.explain.routes import ExplainRoutes
from service.front.admission import Admission
from service.front.budgets import Budgets
from service.front.concurrency import ConcurrencyLimit
from service.front.connections import LEAST_FILES, Connections, most_files
from service.front.console.sources import Sources
from service.front.cors import Cors
from service.front.direct import Direct
from service.front.dispatch import Limits
from service.front.http import Receive, Send
from service.front.memory_room import furnish
from service.front.openapi.document import pages
from service.front.page_routes import Document, PageRoutes, keyless
from service.front.readiness import Readiness
from service.front.remote_engine import RemoteEngine
from service.front.v1_routes import read
from service.interpreter import switch_soon
from service.keys.keyring import Keyring
from service.lifecycle import supervisor
from service.lifecycle.assembly import Assembly, codes_of
from service.lifecycle.console import console_routes, has_console
from service.lifecycle.exposure import refuse_exposed
from service.lifecycle.heartbeat import keep_beating
from service.lifecycle.interruption import unless_told_to_stop
from service.lifecycle.listening_socket import internet_address, listen, take_own_port
from service.lifecycle.metrics_port import FIRST, METRICS, PATHS, MetricsPort
from service.lifecycle.pidfile import Notice, Presence, Process
from service.lifecycle.shutdown import Shutdown
from service.messages.board import Board
from service.messages.paths import BOARD, FAMILIES, run_folder
from service.messages.seat import Seat
from service.messages.served_model import ServedModel
from service.settings import OWNER_ONLY, Settings
from service.telemetry.logs import configure
from service.telemetry.metrics.exposition import Exposition
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.metrics.plain_families import FamiliesFile
from service.telemetry.metrics.process_figures import ProcessFigures
from service.telemetry.request_record import Exchanges
from service.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from service.front.grpc_server import RpcServer

__all__ = ["FrontProcess"]

LOG = logging.getLogger("guardhouse")
ANYWHERE = "0.0.0.0"  # noqa: S104 - in a pod, a server listens on every address
CLOSE_SECONDS = 5.0
"""How long a part of the front may take to close; gRPC may take a request's time longer."""
NOBODY = "no supervisor of this server started this process: start the server with `guardhouse serve`"


class Place(NamedTuple):
    """Where a front sits: its server's run folder and board, and its own seat on the board."""

    folder: Path
    board: Board
    seat: Seat


class FrontProcess:
    """Everything that lives in a front's process after the engine has sent the description of the served model."""

    def __init__(
        self,
        engine: RemoteEngine,
        served: ServedModel,
        place: Place,
        tracing: Tracing | None,
        notice: Notice | None,
        keyring: Keyring | None,
        schema: Document | None,
    ) -> None:
        """Connect the parts with each other; :meth:`start` makes the arguments."""
        server = served.server
        furnish(server.max_body_bytes, grpc=server.grpc_port is not None)
        self.engine, self.served = engine, served
        folder, board, seat = place
        self._board, self._seat = board, seat
        self._tracing, self._notice = tracing, notice
        self.shutdown = Shutdown(
            request_seconds=server.timeout_seconds,
            announce=self._announce,
            close_idle=self._close_idle,
            finish=self._stop_rpc,
            close=self._close,
        )
        codes = codes_of(served, EXPLAIN_CODES, keys=keyring is not None)
        metrics = FrontMetrics(codes, seat)
        self.connections = Connections(metrics, read_seconds=server.timeout_seconds)
        exposition = Exposition(
            board,
            codes,
            [guard.name for guard in served.guards],
            served.explain.allowed,
            monitors=served.monitors,
            ask=engine.metrics,
            file=FamiliesFile(folder / FAMILIES),
        )
        limit = ConcurrencyLimit(lambda: board.batch_seconds, seat)
        self._exchanges = exchanges = Exchanges(metrics, tracing)
        self._admission = admission = None if keyring is None else Admission(keyring, Budgets(engine.control))
        readiness = Readiness(engine, lambda: self.shutdown.draining, lambda: board.connecting)
        self._assembly = assembly = Assembly.of(
            served,
            engine,
            readiness=readiness,
            stages=metrics.stages,
            limit=limit,
            exposition=exposition,
            totals=exposition.totals,
            more=ExplainRoutes(served, engine.control, partial(read, served)).routes(),
        )
        documents = pages(served, keyless=None if admission is None else keyless(assembly.routes))
        publishing = asyncio.create_task(ProcessFigures(seat).keep_publishing())
        self._tasks = [publishing, asyncio.create_task(memory.keep_giving_back())]
        sources: Sources | None = None
        if has_console(served, internet_address()):
            sources = Sources(served, engine, readiness, board=board, counts=exposition.counts)
            self._tasks += sources.keep()
        if keyring is not None:
            self._tasks.append(asyncio.create_task(keyring.keep_looking()))
        answering = partial(
            Limits,
            exchanges=exchanges,
            max_body_bytes=server.max_body_bytes,
            timeout_seconds=server.timeout_seconds,
            closing=lambda: self.shutdown.draining,
            admission=admission,
            trusted_proxies=server.trusted_proxies,
            concurrency=limit,
        )
        page_routes = PageRoutes(documents, schema).routes()
        routes = {**assembly.routes, **page_routes, **console_routes(documents, sources)}
        self._metrics_port: MetricsPort | None = None
        if server.metrics_port is not None:
            if seat.number == FIRST:
                apart = answering({path: routes[path] for path in PATHS})
                self._metrics_port = MetricsPort(apart, self.connections, server.keep_alive_seconds)
            del routes[METRICS]
        limits = answering(routes)
        # Answers to other origins' pages need more headers, which only the general way adds.
        self.direct = Direct(limits) if server.cors is None else None
        self.answer: Callable[[Any, Receive, Send], Any] = (
            limits if server.cors is None else Cors(limits, server.cors, exchanges)
        )
        self._rpc: RpcServer | None = None

    @classmethod
    async def start(cls, schema: Document | None = None) -> Self:
        """Connect to the engine, wait for the description of the served model, and open every route.

        ``schema`` gives the document of ``/schema.json``; without it the server has no such path.

        Raises:
            Mistake: a setting is wrong, or a port is taken.
            InterruptedError: the server got the signal to stop before it had started.
        """
        folder = run_folder()
        if folder is None:
            raise Mistake(NOBODY)
        if (files := most_files()) is not None and files < LEAST_FILES:
            raise Mistake(f"a front may open {files} files, which is too few: allow {LEAST_FILES} or more (ulimit -n)")
        os.umask(OWNER_ONLY)
        settings = Settings.from_environment()
        configure(settings.log_level)
        if (address := internet_address()) is not None:
            refuse_exposed(address[0], settings)
        keyring = None if settings.api_keys is None else Keyring(settings.api_keys)
        board = Board(folder / BOARD)
        seat = board.take_seat()
        engine = RemoteEngine(folder, board, seat)
        served = await unless_told_to_stop(engine.settled())
        take_own_port()
        tracing = Tracing.from_environment(model=served.name, version=served.version)
        notice = None
        with optional("`guardhouse drain` will not find this server"):
            notice = Notice(_presence(seat.number), settings.state_folder)
        front = cls(engine, served, Place(folder, board, seat), tracing, notice, keyring, schema)
        await front._open()
        return front

    async def _open(self) -> None:
        server = self.served.server
        if server.grpc_port is not None:
            self._rpc = self._assembly.rpc_server(
                self._exchanges, admission=self._admission, share_port=len(self._board.fronts) > 1
            )
            await self._rpc.start(_address()[0], server.grpc_port)
        if self._metrics_port is not None and server.metrics_port is not None:
            await self._metrics_port.listen(_address()[0], server.metrics_port)
        switch_soon()
        memory.settle()  # before the first request: a full garbage collection stops the process for 150 ms
        self._tasks.append(asyncio.create_task(keep_beating(self._seat)))
        self.engine.listens()
        try:
            listen()
        except OSError as taken:
            raise Mistake("port {1} of {0}: cannot listen there ({2})".format(*_address(), taken.strerror)) from None
        self.shutdown.listen(asyncio.get_running_loop())
        if self._board.draining:
            self.shutdown.drain()

    def _announce(self) -> None:
        self._board.draining = True
        if self._notice is not None:
            self._notice.drains()

    def _close_idle(self) -> None:
        """Close the connections that have no request in flight."""
        for connection in self.connections:
            connection.shutdown()

    async def _stop_rpc(self) -> None:
        if self._rpc is not None:
            await self._rpc.stop()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        steps = []
        if self._rpc is not None:
            steps.append(Step("gRPC", self.served.server.timeout_seconds + CLOSE_SECONDS, self._rpc.stop))
        if self._metrics_port is not None:
            steps.append(Step("the metrics' port", CLOSE_SECONDS, self._metrics_port.close))
        steps.append(Step("the engine's connection", CLOSE_SECONDS, self.engine.close))
        if self._tracing is not None:
            steps.append(Step("tracing", CLOSE_SECONDS, self._tracing.close))
        await close_all(*steps)
        if self._notice is not None:
            with optional("the file by which `guardhouse drain` finds a server remains"):
                self._notice.remove()


def _address() -> tuple[str, int]:
    return internet_address() or (ANYWHERE, 0)


def _presence(seat: int) -> Presence:
    """Describe this front and its supervisor for the front's own file."""
    here = Process.of(os.getpid())
    above = supervisor.supervisor()
    return Presence(_address()[1], seat, here, here if above is None else Process.of(above))
