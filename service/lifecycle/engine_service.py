"""What the engine's process does: describes the served model to the fronts, loads the model, and answers."""

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from guards.bundle.bundle import Bundle
from guards.memory.base import MemoryGuard
from guards.memory.history import History, LocalHistory
from guards.types import Mistake
from service import memory
from service.closing import close_all
from service.engine.about import known_rows
from service.engine.control_server import ControlServer
from service.engine.deployment import Deployment, unknown_principals
from service.engine.describe import describe
from service.engine.engine import Engine
from service.engine.row_server import RowServer
from service.engine.shared_history import SharedHistory, connect_blocking
from service.explain.desk import ExplanationDesk
from service.keys.key_file import read_keys
from service.lifecycle import supervisor
from service.lifecycle.addresses import database_url, read_settings
from service.lifecycle.heartbeat import keep_beating
from service.lifecycle.process_names import SERVING, call_this_process
from service.messages.board import Board
from service.messages.monitor_changes import Change
from service.messages.outcomes import LISTS, Outcome
from service.messages.paths import CONTROL_SOCKET, FAMILIES, ROW_SOCKET, STORE_SOCKET
from service.messages.seat import Seat
from service.messages.served_model import ServedModel
from service.quotas.keeper import Keeper
from service.settings import Settings, without_effect
from service.single_flight import SingleFlight
from service.store.remote_store import RemoteStore
from service.telemetry.logs import configure
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.plain_families import FamiliesFile
from service.telemetry.metrics.process_figures import ProcessFigures

__all__ = ["EngineService"]

LOG = logging.getLogger("guardhouse")
WITH_KEYS = 10
"""The default of ``server.smallest_count`` if the server has keys."""
LEAVE_SECONDS = 120.0
"""How long the engine waits for the fronts to leave after the signal to stop. The fronts' own limit is shorter."""


class EngineService:
    """Everything that lives in the engine's process."""

    def __init__(self, folder: Path, board: Board, seat: Seat) -> None:
        """Prepare to serve from the run ``folder``, with the engine's ``seat``, which this process has taken."""
        self._folder, self._board, self._seat = folder, board, seat
        if seconds := seat.patience(time.monotonic()):
            LOG.warning("the engine has ended several times soon after its start: it restarts in %g s", seconds)
            time.sleep(seconds)
        self._figures = ProcessFigures(seat)
        self._engine: Engine | None = None
        self._rows: RowServer | None = None
        self._desk: ExplanationDesk | None = None
        self._keeper: Keeper | None = None
        self._scrape = SingleFlight(self._exported)
        self._scraping = ThreadPoolExecutor(1, thread_name_prefix="scrape")
        """A thread for scrapes alone. The shared threads may all wait for a database that does not answer."""
        self._stopping = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until a signal arrives or the supervisor dies; then wait until every front has left, and close.

        Raises:
            Mistake: the settings, the config or the bundle's description cannot be read.
        """
        settings = read_settings()
        configure(settings.log_level)
        if settings.api_keys is None:
            LOG.info("there are no keys: everybody who reaches this server may ask everything")
        for sentence in without_effect():
            LOG.warning(sentence)
        deployment = Deployment.read(settings)
        if settings.api_keys is not None:
            entries = read_keys(settings.api_keys).principals
            for sentence in unknown_principals(deployment.config, (entry.name for entry in entries)):
                LOG.warning(sentence)
        rows = known_rows(settings.bundle, deployment.config, deployment.manifest.row_schema)
        served = describe(deployment, rows)
        self._control = ControlServer(served.model_dump(mode="json"), {})
        await self._control.start(self._folder / CONTROL_SOCKET)
        loop = asyncio.get_running_loop()
        publishing = asyncio.create_task(self._figures.keep_publishing())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop)
        supervisor.watch(lambda: loop.call_soon_threadsafe(self._stopping.set))
        self._metrics = EngineMetrics(
            [guard.name for guard in served.guards],
            list(deployment.config.explain.allowed),
            self._seat,
            monitors=served.monitors,
            on_purpose=deployment.config.on_purpose,
        )
        threading.Thread(target=self._load, args=(settings, deployment, served, loop), name="load", daemon=True).start()
        await self._stopping.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._control.fronts_left()
        publishing.cancel()
        if self._beating is not None:
            self._beating.cancel()
        await self._close()

    def _stop(self) -> None:
        """Leave once every front has left; the whole server stops, whichever of its processes got the signal."""
        self._stopping.set()
        supervisor.tell_to_stop()

    def _load(
        self, settings: Settings, deployment: Deployment, served: ServedModel, loop: asyncio.AbstractEventLoop
    ) -> None:
        try:
            folder = None if settings.config is None else settings.config.resolve().parent
            bundle = Bundle.load(
                settings.bundle, config=deployment.deployed, folder=folder, bundle_id=deployment.manifest.id
            )
            engine = Engine(
                bundle,
                self._board,
                self._metrics,
                families=FamiliesFile(self._folder / FAMILIES),
                state=settings.state_folder,
                smallest_count=_smallest_count(deployment, settings),
                remember=self._history(settings, served, bundle.id),
                open_store=partial(RemoteStore, self._folder / STORE_SOCKET, database_url(settings)),
            )
        except Mistake as mistake:
            LOG.critical("the model cannot be served: %s", mistake)
            loop.call_soon_threadsafe(self._control.say, "failed", f"the model cannot be served: {mistake}")
        except Exception as fault:  # noqa: BLE001 - the fronts say what it was, and the log where
            loop.call_soon_threadsafe(self._say_failed, fault)
        else:
            loop.call_soon_threadsafe(self._open, engine, served, settings.redis_url)

    def _history(self, settings: Settings, served: ServedModel, bundle: str) -> Callable[[MemoryGuard], History]:
        """Say where guards with memory remember: in Redis if there is a URL, else in this process."""
        if settings.redis_url is None or not served.remembers:
            return LocalHistory
        redis = connect_blocking(settings.redis_url)
        return partial(SharedHistory, redis=redis, prefix=f"{served.name}:{bundle}", on_loss=self._metrics.query_lost)

    def _open(self, engine: Engine, served: ServedModel, redis_url: str | None) -> None:
        try:
            self._start(engine, served, redis_url)
        except Exception as fault:  # noqa: BLE001 - readiness would say "loading" for ever
            self._say_failed(fault)

    def _say_failed(self, fault: Exception) -> None:
        LOG.critical("the model cannot be served: %s", type(fault).__name__, exc_info=fault)
        self._control.say("failed", f"the model cannot be served: {type(fault).__name__}; the log says where")

    def _start(self, engine: Engine, served: ServedModel, redis_url: str | None) -> None:
        memory.settle()
        engine.start()
        self._rows = RowServer(self._folder / ROW_SOCKET, served.layout, self._board, engine.codes, engine.batcher.add)
        self._engine = engine
        self._keeper = keeper = Keeper(served.name, redis_url, on_loss=self._metrics.redis_errors.add)
        self._desk = ExplanationDesk(
            engine.bundle, self._metrics, jobs=engine.jobs, busy=lambda: engine.busy, keeper=keeper
        )
        self._desk.start()
        handlers = {"report": self._report, "join": self._join, "metrics": self._families, "change": self._change}
        self._control.add({**handlers, **keeper.handlers(), **self._desk.handlers()})
        self._control.say("ready")
        self._beating = asyncio.create_task(keep_beating(self._seat))
        call_this_process(SERVING)
        LOG.info("serving %s %s, bundle %s", served.name, served.version, served.bundle)

    async def _report(self, head: dict[str, Any], _: bytes) -> tuple[Mapping[str, Any], bytes]:
        assert self._engine is not None  # noqa: S101 - the handlers are added after the engine is made
        return {}, orjson.dumps(await self._engine.report(head["scope"]))

    async def _join(self, _: dict[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        assert self._engine is not None  # noqa: S101 - the handlers are added after the engine is made
        joined = await self._engine.join([Outcome(**outcome) for outcome in orjson.loads(body)])
        return {}, orjson.dumps({name: getattr(joined, name) for name in LISTS})

    async def _change(self, head: dict[str, Any], _: bytes) -> tuple[Mapping[str, Any], bytes]:
        assert self._engine is not None  # noqa: S101 - the handlers are added after the engine is made
        return {}, orjson.dumps(await self._engine.change(Change(**head["change"])))

    async def _families(self, _: dict[str, Any], __: bytes) -> tuple[Mapping[str, Any], bytes]:
        return {}, await self._scrape()

    async def _exported(self) -> bytes:
        assert self._engine is not None  # noqa: S101 - the handlers are added after the engine is made
        # In a thread, because the families may wait for a slow monitor.
        return await asyncio.get_running_loop().run_in_executor(self._scraping, self._engine.exported)

    async def _close(self) -> None:
        if self._rows is not None:
            self._rows.close()
        if self._desk is not None:
            await close_all(*self._desk.closing())
        if self._keeper is not None:
            await close_all(*self._keeper.closing())
        if self._engine is not None:
            await close_all(*self._engine.closing())
        await self._control.close()


def _smallest_count(deployment: Deployment, settings: Settings) -> int:
    """Return by how many rows figures change at least. Without keys everybody is one caller, so one row may be seen."""
    configured = deployment.config.server.smallest_count
    return configured or (1 if settings.api_keys is None else WITH_KEYS)
