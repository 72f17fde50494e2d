"""The explanation routes of a front and the explanation desk of an engine, with real sockets and processes."""

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml
from gateways import fit_all

from guards.bundle.bundle import Bundle
from service.closing import close_all
from service.engine.control_server import ControlServer
from service.engine.deployment import Deployment
from service.engine.describe import describe
from service.explain.desk import ExplanationDesk
from service.explain.routes import ExplainRoutes
from service.front.control_channel import ControlChannel
from service.front.http import Call
from service.front.protocols import v1
from service.front.protocols.problem import Problem
from service.messages.refused import Refused
from service.quotas.keeper import Keeper
from service.settings import Settings
from service.store.local_store import LocalStore, StoreSettings
from service.store.served_versions import Edition

T = TypeVar("T")
WORKER = "service.explain.worker_main"
KEEP_PRIORITY = str(Path(__file__).parent / "keep_priority")
"""A folder on the import path that makes processes of the lowest priority as quick as others."""


def fit(config: Path) -> Path:
    """Fit a config, and give the bundle's folder."""
    out = config.parent / "bundle"
    fit_all({config: out})
    return out


@dataclass(frozen=True)
class Said:
    """The routes' answer: a reply, or a problem with its status, or a refusal with its reason."""

    status: int | str
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""
    errors: list[tuple[tuple[str | int, ...], str]] = field(default_factory=list)
    retry_after: float | None = None

    @property
    def explanations(self) -> list[dict[str, Any]]:
        """Give the explanations of the rows."""
        assert self.status == 200, self
        found: list[dict[str, Any]] = json.loads(self.body)["explanations"]
        return found


class Counted:
    """Counts explanations in the place of the metrics."""

    def __init__(self) -> None:
        self.results: Counter[tuple[str, ...]] = Counter()
        self.losses = 0
        self.seconds: list[float] = []
        self.explanations = self.explain_duration = self.redis_errors = self

    def add(self, *labels: str) -> None:
        """Count a result, or, without labels, a question that Redis did not answer."""
        if labels:
            self.results[labels] += 1
        else:
            self.losses += 1

    def observe(self, seconds: float, *_: str) -> None:
        """Record a duration."""
        self.seconds.append(seconds)


class ExplanationServer:
    """Runs both sides of the seam on an event loop in a thread of its own.

    ``database`` is the URL of the store, if there is one. ``explain`` are keys of the config's section ``explain``.
    """

    def __init__(
        self,
        bundle: Path,
        run_folder: Path,
        *,
        database: str | None = None,
        redis_url: str | None = None,
        **explain: Any,
    ) -> None:
        document = yaml.safe_load((bundle.parent / "gateway.yaml").read_text())
        document["explain"] = {**document.get("explain", {}), **explain}
        document["store"] = {**document.get("store", {}), "enabled": database is not None}
        config = bundle.parent / f"{run_folder.name}.yaml"
        config.write_text(yaml.safe_dump(document))
        environment = {"GUARDHOUSE_BUNDLE": str(bundle), "GUARDHOUSE_CONFIG": str(config)}
        os.environ |= environment  # the explanation process reads the environment
        sys.path.insert(0, KEEP_PRIORITY)
        settings = Settings.from_environment(environment)
        deployment = Deployment.read(settings)
        self.served = describe(deployment)
        self.bundle = Bundle.load(bundle, config=deployment.deployed, folder=config.parent)
        self.count, self.busy = Counted(), False
        self._others: set[int] = set()
        self._others = {worker.pid for worker in self.workers()}
        self._socket, self._database, self._redis_url = run_folder / "control", database, redis_url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.wait(self._start())

    def wait(self, work: Coroutine[Any, Any, T], seconds: float = 300) -> T:
        """Run a coroutine on the event loop, and wait for the result."""
        return self.begin(work).result(seconds)

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine on the event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _start(self) -> None:
        await self.start_desk()
        self._channel = ControlChannel(str(self._socket), lambda _: None)
        while self._channel.trouble is not None:  # noqa: ASYNC110 - a test may poll
            await asyncio.sleep(0.01)
        self.routes = ExplainRoutes(self.served, self._channel, self._read)

    async def start_desk(self) -> None:
        """Start a desk on the socket, as an engine does after it has loaded the model."""
        self._store = None if self._database is None else self._opened(self._database)
        self._keeper = Keeper(self.served.name, self._redis_url, on_loss=self.count.redis_errors.add)
        self.desk = ExplanationDesk(
            self.bundle,
            self.count,
            jobs=None if self._store is None else self._store.jobs,
            busy=lambda: self.busy,
            keeper=self._keeper,
        )
        self.desk.start()
        self.control = ControlServer(self.served.model_dump(mode="json"), self.desk.handlers())
        self.control.say("ready")
        await self.control.start(self._socket)

    async def stop_desk(self) -> None:
        """Stop the desk in order."""
        await self.desk.close()
        await self.control.close()
        await close_all(*self._keeper.closing())
        if self._store is not None:
            self._store.close()

    def _opened(self, url: str) -> LocalStore:
        bundle = self.bundle
        edition = Edition(bundle.config.name, bundle.config.version, bundle.id, {}, bundle.classes)
        explain = bundle.config.explain
        settings = StoreSettings(edition, bundle.config.store, explain.max_jobs, explain.keep_seconds)
        return LocalStore.open(url, settings)

    async def _read(self, call: Call, parameters: Mapping[str, type | tuple[type, ...]]) -> v1.Request:
        most = self.served.server.max_rows_per_request
        return v1.decode(call.body, schema=self.served.rows, max_rows=most, parameters=parameters)

    # A client

    async def asked(self, document: Any, *, client: str = "10.0.0.1", seconds: float = 120, **headers: str) -> Said:
        """Send a body to ``:explain``; header names are written with underscores."""
        named = {name.lower().replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        call = Call("POST", f"/v1/models/{self.served.name}:explain", named, "request", time.monotonic() + seconds)
        call.client = client
        call.body = document if isinstance(document, bytes) else json.dumps(document).encode()
        async with asyncio.timeout_at(call.deadline):
            return await self._said(self.routes.explain, call)

    async def fetched(self, location: str) -> Said:
        """Ask for the job at an address."""
        call = Call("GET", location, {}, "request", time.monotonic() + 120)
        return await self._said(self.routes.result, call)

    async def _said(self, handler: Any, call: Call) -> Said:
        try:
            reply = await handler(call)
        except Problem as problem:
            headers, errors = problem.headers, [(tuple(place), said) for place, said in problem.errors]
            return Said(int(problem.status), headers=headers, detail=problem.detail, errors=errors)
        except Refused as refused:
            return Said(refused.reason, detail=refused.detail, retry_after=refused.retry_after)
        return Said(int(reply.status), reply.body, reply.content_type, reply.headers)

    def explain(self, row: Any, **parameters: Any) -> dict[str, Any]:
        """Ask for the explanation of one row, and give it."""
        (found,) = self.wait(self.asked({"instances": [row], "parameters": parameters})).explanations
        return found

    def post(self, document: Any, **options: Any) -> Said:
        """Send a body to ``:explain``, and wait for the answer."""
        return self.wait(self.asked(document, **options))

    def fetch(self, location: str) -> Said:
        """Wait for the answer of a job, and give it."""
        end = time.monotonic() + 300
        while (said := self.wait(self.fetched(location))).status == 202:
            assert time.monotonic() < end
            time.sleep(0.05)
        return said

    def workers(self) -> list[psutil.Process]:
        """List the explanation processes that were started after this server."""
        found = []
        for child in psutil.Process().children():
            if child.pid in self._others:
                continue
            try:
                if WORKER in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def close(self) -> None:
        """End both sides and all their processes."""
        self.wait(self._close())
        sys.path.remove(KEEP_PRIORITY)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(180)
        self._loop.close()

    async def _close(self) -> None:
        await self._channel.close()
        await self.stop_desk()


def servers(bundle: Path, folder: Path) -> Iterator[Callable[..., ExplanationServer]]:
    """Give a function that starts servers of a bundle; all servers are closed at the end."""
    started: list[ExplanationServer] = []

    def begin(**options: Any) -> ExplanationServer:
        started.append(ExplanationServer(bundle, folder, **options))
        return started[-1]

    yield begin
    for each in started:
        each.close()
