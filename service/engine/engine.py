"""The engine: one bundle on one device, with its batcher, its monitors and its store."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from guards.bundle.bundle import Bundle
from guards.memory.base import MemoryGuard
from guards.memory.history import History, LocalHistory
from guards.monitors.base import MonitorParams
from guards.monitors.groups.monitor import level_codes, of_requests
from guards.monitors.teachers import TeacherParams
from guards.pipeline import fatal
from guards.version import __version__
from service.closing import Step, optional
from service.engine.batcher import Batcher
from service.engine.bookkeeping import Bookkeeping
from service.engine.executor import Executor
from service.engine.ledger import Ledger
from service.messages.board import Board
from service.messages.monitor_changes import Change, Standing
from service.messages.outcomes import Joined, Outcome
from service.messages.refused import Refused
from service.messages.requests import Groups
from service.messages.scope import Scope
from service.monitoring.exported_series import ExportedSeries
from service.monitoring.live_monitors import Monitoring
from service.monitoring.snapshots import Snapshots
from service.monitoring.teaching import Teaching
from service.steady_clock import SteadyClock
from service.store.local_store import StoreSettings
from service.store.store_client import Jobs, StoreClient
from service.telemetry.gpu import Gpu
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.engine_families import EngineFamilies, Promises
from service.telemetry.metrics.plain_families import FamiliesFile

__all__ = ["Engine"]

LOG = logging.getLogger("guardhouse")
Array = npt.NDArray[Any]
DEVICE_LOST = 70
"""The exit status of an engine whose device is lost: only a new process can use the device again."""
FIRST_TRY_SECONDS = 10.0
"""How long the start waits for the store; a server starts even if its database does not answer."""
CLOSE_SECONDS, STORE_SECONDS = 5.0, 8.0
"""How long a part may take to close. The store and the monitors' process get ``STORE_SECONDS``; their own limits are
shorter."""
COUNTED_SECONDS = 2.0
"""How long a scrape may wait until answered rows are counted. A front waits for the engine's families for longer."""
BUSY_SECONDS = 1.0
"""How long after its last batch an engine still counts as busy."""
NOT_ASKED: Mapping[str, Array] = {}


class Engine:
    """One bundle on one device. A thread constructs the engine, which takes long; the event loop starts the engine."""

    def __init__(  # noqa: PLR0913 - the parts of a server that an engine works with
        self,
        bundle: Bundle,
        board: Board,
        metrics: EngineMetrics,
        *,
        families: FamiliesFile | None = None,
        state: Path | None = None,
        open_store: Callable[[StoreSettings], StoreClient] | None = None,
        smallest_count: int = 1,
        remember: Callable[[MemoryGuard], History] = LocalHistory,
    ) -> None:
        """Run the bundle's self-test and warm up the model.

        The monitors' state is kept in the folder ``state``, so that a restart does not lose it. Answered rows are
        stored in the store that ``open_store`` opens; if that is None, they are not stored. The file ``families`` holds
        the metric families of the server's previous engine. Figures change by at least ``smallest_count`` rows at once.
        A guard with memory remembers in what ``remember`` gives for it.

        Raises:
            Mistake: the self-test failed, or the calibration rows do not support the config.
        """
        self.bundle, self.config = bundle, bundle.config
        self._metrics = metrics
        pipeline = bundle.pipeline()
        if pipeline.predictor.notice is not None:  # a new coverage may need more rows of a class or a group
            LOG.warning("%s", pipeline.predictor.notice)
        bundle.run_self_test(pipeline)
        exported = ExportedSeries({} if families is None else families.counters())
        self.monitoring = Monitoring(bundle.monitors, exported, smallest_count=smallest_count)
        self._snapshots: Snapshots | None = None
        if state is not None:
            with optional("the monitors start anew, and a restart forgets them"):
                self._snapshots = self._restored(state)
        self._request_groups = of_requests(bundle.monitors)
        self._clock = SteadyClock(quiet=True)  # the store's clock logs jumps
        self._teaching = Teaching(self.config.all_monitors, metrics.count_skipped)
        self._watch = bundle.watch(remember) if bundle.memory_guards else None
        executor = Executor(
            bundle,
            pipeline,
            max_batch_rows=self.config.server.max_batch_rows,
            clock=self._clock.now,
            watch=self._watch,
        )
        self._ledger = Ledger(
            bundle,
            pipeline,
            self.monitoring,
            metrics,
            open_store if self.config.store.enabled else None,
            hurry=self._settle,
            smallest_count=smallest_count,
            on_standing=self._stand,
        )
        self.batch_rows = executor.warm_up()
        self._ledger.wait_until_tried(FIRST_TRY_SECONDS)
        self._books = Bookkeeping(self._ledger, self.monitoring, metrics, self._teaching, smallest_count=smallest_count)
        self.batcher = Batcher(
            executor.compute,
            self._books,
            board,
            max_batch_rows=self.batch_rows,
            attributes=tuple(self._request_groups),
            on_wait=lambda seconds: metrics.stages.observe(seconds, "queue"),
            on_fault=_on_fault,
            remember=executor.remember,
        )
        self.families = self._made_families(tuple(bundle.thresholds(pipeline).values()), families)

    def _restored(self, folder: Path) -> Snapshots:
        configs = {params.name: _written(params) for params in self.config.monitors}
        name, bundle = self.config.name, self.bundle.id
        return Snapshots(folder, model=name, bundle=bundle, configs=configs, monitoring=self.monitoring)

    def _made_families(self, thresholds: tuple[float, ...], file: FamiliesFile | None) -> EngineFamilies:
        device, config = self.bundle.model.device, self.config
        return EngineFamilies(
            counts=self._metrics,
            device=str(device),
            info={
                "version": __version__,
                "model": config.name,
                "model_version": config.version,
                "bundle": self.bundle.id,
            },
            series=self.monitoring.series,
            states=self.monitoring.states,
            store=lambda: self._ledger.figures,
            remembered=self._remembered,
            promises=Promises(config.false_alarm_budget, config.coverage, thresholds, self.bundle.abstentions),
            gpu=Gpu.of(device),
            file=file,
        )

    def _remembered(self) -> Mapping[str, int]:
        return {} if self._watch is None else self._watch.entries

    def start(self) -> None:
        """Start to take rows, and to save the monitors' state."""
        self.batcher.start()
        if self._snapshots is not None:
            self._snapshots.start()

    def exported(self) -> bytes:
        """Give the metrics' families as JSON. Rows are counted after their answers: this waits until they are."""
        self._settle(COUNTED_SECONDS)
        return self.families.encoded()

    def _settle(self, seconds: float) -> bool:
        return self.batcher.settle(seconds)

    @property
    def jobs(self) -> Jobs | None:
        """The store's explanations that are computed later; None without a store."""
        return self._ledger.jobs

    @property
    def busy(self) -> bool:
        """Whether rows were predicted within the last second."""
        return self._clock.now() - self._metrics.last_batch < BUSY_SECONDS

    def codes(self, rows: int, groups: Groups) -> Mapping[str, Array]:
        """Turn the groups of a request, by the request's names, into level codes (rows,) by attribute."""
        if not self._request_groups:
            return NOT_ASKED
        return {name: codes.numpy() for name, codes in level_codes(self._request_groups, rows, groups).items()}

    async def report(self, scope: Scope = "bundle") -> dict[str, Any]:
        """Report every monitor.

        Raises:
            Refused: the scope is wider than the bundle, and there is no store, or the store is down.
        """
        return await self._ledger.report(scope)

    async def join(self, outcomes: Sequence[Outcome]) -> Joined:
        """Store outcomes of known predictions, durably.

        Raises:
            Refused: there is no store, the store is down, or too many outcomes wait.
        """
        if self._ledger.feedback is None:
            raise Refused("no_store", "this server keeps no predictions: store.enabled is false")
        # Outcomes that arrived are stored, even if the client does not wait for the answer any more.
        return await asyncio.shield(self._ledger.feedback.join(outcomes))

    def _stand(self, standing: Standing) -> None:
        self._teaching.excluded = standing.excluded
        self.monitoring.reset(standing.resets)

    async def change(self, change: Change) -> dict[str, Any]:
        """Record a change of the monitors, and follow it.

        Raises:
            Refused: there is no store, the store is down, or the monitor cannot be reset.
        """
        return await asyncio.shield(self._ledger.change(change))  # goes on if the client leaves

    def closing(self) -> list[Step]:
        """List what to close, in order: first waiting requests are answered, then the answered rows are stored."""
        steps = [
            Step("the batcher", CLOSE_SECONDS, partial(asyncio.to_thread, self.batcher.close)),
            Step("the last rows' figures", CLOSE_SECONDS, partial(asyncio.to_thread, self._books.close)),
            Step("the store", STORE_SECONDS, partial(asyncio.to_thread, self._ledger.close)),
        ]
        if self._snapshots is not None:
            steps.append(Step("the monitors' state", CLOSE_SECONDS, partial(asyncio.to_thread, self._snapshots.close)))
        monitoring = partial(asyncio.to_thread, self.monitoring.close)
        return [*steps, Step("the monitors' process", STORE_SECONDS, monitoring)]


def _written(params: MonitorParams) -> str:
    """Write a monitor's config. Keys of trust that are not set are left out: earlier versions did not have them."""
    return params.model_dump_json(exclude={key for key in TeacherParams.model_fields if getattr(params, key) is None})


def _on_fault(fault: BaseException) -> None:
    if fatal(fault):
        LOG.critical("the device is lost (%s): the engine exits, to be started again", type(fault).__name__)
        os._exit(DEVICE_LOST)
    LOG.error("a batch failed: %s", type(fault).__name__)
