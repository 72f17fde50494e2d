"""What a server runs once its bundle is loaded: the pipeline on its device, the batcher, the monitors."""

import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sqlalchemy import URL

from guards.bundle import Bundle, __version__
from guards.config import Config
from guards.monitors.groups import level_codes, of_requests
from guards.pipeline import fatal
from guards.types import Batch, Mistake, Outcome
from service import memory
from service.answer import Answer
from service.batch_size import measure, preferred
from service.batcher import Computation, MicroBatcher
from service.clock import Laps
from service.closing import Step, optional
from service.database import Database
from service.exchange import CURRENT, Stage
from service.gpu import Gpu
from service.ledger import Ledger
from service.metrics import Metrics, ModelMetrics, Promises
from service.monitoring import Monitoring
from service.protocols.problem import unavailable
from service.snapshots import Snapshots
from service.turns import TURNS

__all__ = ["Runtime"]

LOG = logging.getLogger("guardhouse")
Array = npt.NDArray[Any]
Values = Mapping[str, list[str | None]]
DEVICE_LOST = 70
CLOSE_SECONDS, STORE_SECONDS = 5.0, 8.0
"""How long a part may take to be closed; those of the second kind have a shorter limit of their own."""
BUSY_SECONDS = 1.0
"""How long after its last batch a server counts as one that predicts."""
DEVICE_STAGES = ("input_guards", "model", "output_guards")
"""What a batch's clock times after the copy to the device."""
LONG_SECONDS = 0.002
"""A batch that takes less, on a CPU, is done before the event loop has got far with anything else."""


class Runtime:
    """One bundle on one device; made in a thread, used from the event loop."""

    def __init__(
        self, bundle: Bundle, metrics: Metrics, *, state: Path | None = None, database: URL | None = None
    ) -> None:
        """Check the bundle on its known rows and warm it up.

        What a restart must not lose is kept in the folder ``state``, answered rows in ``database``, where there is one.

        Raises:
            Mistake: the self-test failed, or the calibration rows do not support the config.
        """
        self.bundle, self.metrics, self.config = bundle, metrics, bundle.config
        self.pipeline = bundle.pipeline()
        self.device = bundle.model.device
        self._device_lock = threading.Lock()
        if bundle.self_test is None:
            raise Mistake("self-test: the bundle has no known rows; fit it anew")
        bundle.self_test.check(self.pipeline)
        self.monitoring = Monitoring(bundle.monitors)
        self.snapshots: Snapshots | None = None
        if state is not None:
            with optional("the monitors start anew, and a restart forgets them"):
                self.snapshots = _snapshots(state, bundle, self.monitoring)
        self.request_groups = of_requests(bundle.monitors)
        served = {"model": self.config.name, "model_version": self.config.version, "bundle": bundle.id}
        guards = [guard.name for guard in self.pipeline.guards]
        self.model_metrics = ModelMetrics(
            guards, self.monitoring.series, str(self.device), {"version": __version__, **served},
            promises=Promises(self.config.false_alarm_budget, self.config.coverage, self.pipeline.thresholds),
            gpu=Gpu.of(self.device),
            states=self.monitoring.states,
        )  # fmt: skip
        self._long_forward = False
        self._last_batch = -math.inf
        self._database = None if database is None or not self.config.store.enabled else Database(database)
        self.batch_rows = self._warm_up()
        self.batcher: MicroBatcher | None = None
        self.ledger: Ledger | None = None

    def _warm_up(self) -> int:
        """Run every batch shape, so that no request pays for a first time, and find the size that serves best."""
        schema, known = self.bundle.schema, self.bundle.self_test
        assert known is not None  # noqa: S101 - a bundle without was refused
        # A row that is made up of numbers alone may be none that a model of sequences takes.
        rows = (schema.example_rows(1) if schema.kind == "tabular" else known.x[:1]).numpy()

        def seconds(size: int) -> float:
            x = np.repeat(rows, size, axis=0)
            started = time.perf_counter()
            Answer.of(self._outcome(x, {}, causes=False)[1])
            return time.perf_counter() - started

        rates = measure(self.config.server.max_batch_rows, seconds)
        best = preferred(rates)
        self._long_forward = self.device.type == "cpu" and best / rates[best] > LONG_SECONDS
        LOG.info("batches of up to %d rows: %.0f rows a second", best, rates[best])
        memory.settle()
        return best

    def start(self) -> None:
        """Start the batcher on the running event loop, and the store's writer."""
        server = self.config.server
        self.ledger = Ledger(self.bundle, self.pipeline, self.monitoring, self.model_metrics, self._database)
        self.batcher = MicroBatcher(
            self._compute,
            max_batch_rows=self.batch_rows,
            max_queue_rows=server.max_queue_rows,
            on_wait=lambda seconds: self.metrics.stages.observe(seconds, "queue"),
            on_fault=self._on_fault,
            groups=tuple(self.request_groups),
        )
        if self.snapshots is not None:
            self.snapshots.start()
        self.metrics.model = self.model_metrics
        self.metrics.queue_rows = lambda: 0 if self.batcher is None else self.batcher.queued_rows

    @property
    def busy(self) -> bool:
        """Whether rows were predicted within the last second."""
        return time.monotonic() - self._last_batch < BUSY_SECONDS

    def closing(self) -> list[Step]:
        """List what to close: first what is queued is finished, then what was answered is stored."""
        steps = []
        if self.batcher is not None:
            steps.append(Step("the batcher", CLOSE_SECONDS, self.batcher.close))
        if self.ledger is not None:
            steps.append(Step("the store", STORE_SECONDS, partial(asyncio.to_thread, self.ledger.close)))
        if self.snapshots is not None:
            steps.append(Step("the monitors' state", CLOSE_SECONDS, partial(asyncio.to_thread, self.snapshots.close)))
        monitoring = partial(asyncio.to_thread, self.monitoring.close)
        return [*steps, Step("the monitors' process", STORE_SECONDS, monitoring)]

    def check_room(self) -> None:
        """Refuse a request before it is decoded, where there is no room for one row: refusing a flood must be cheap.

        Raises:
            Problem: the queue is full.
        """
        if self.batcher is not None:
            self.batcher.check_room()

    async def predict(
        self, x: Array, groups: Values, *, ids: Sequence[str], deadline: float, causes: bool = False
    ) -> Answer:
        """Judge and predict rows (n, ...), one id each; with ``causes`` the guards also say what made each row strange.

        Raises:
            Problem: the queue is full, or the deadline cannot be met.
        """
        if self.batcher is None:
            raise unavailable("the model is still loading", reason="loading", retry_after=2)
        codes = {name: code.numpy() for name, code in level_codes(self.request_groups, len(x), groups).items()}
        exchange = CURRENT.get()
        if exchange is not None:
            exchange.rows = len(x)
        stages = None if exchange is None else exchange.stages
        answer = await self.batcher.submit(x, codes, ids=ids, deadline=deadline, causes=causes, stages=stages)
        if exchange is not None:
            exchange.actions = answer.action
        return answer

    def _compute(self, x: Array, groups: Mapping[str, Array], ids: Sequence[str], causes: bool) -> Computation:
        ledger = self.ledger
        assert ledger is not None  # noqa: S101 - it is there before the batcher that calls this
        batch, outcome, laps = self._outcome(x, groups, causes=causes)
        with TURNS.given() if self.device.type == "cuda" else nullcontext():  # while the device catches up
            answer = Answer.of(outcome)
        laps.mark()
        now, self._last_batch = time.time(), time.monotonic()

        def learn(start: int, stop: int) -> None:
            known, shown, judged, named = answer, batch, outcome, ids
            if stop - start < len(answer):
                rows = slice(start, stop)
                known, shown, judged, named = answer.rows(start, stop), batch[rows], outcome[rows], ids[rows]
            ledger.note(named, now, shown, known)
            self.model_metrics.observe(known)
            self.monitoring.observe(shown, judged)

        def afterwards() -> None:
            seconds = laps.seconds()
            for stage, spent in zip(DEVICE_STAGES, seconds[1:], strict=False):
                self.metrics.stages.observe(spent, stage)
            self.model_metrics.ran(len(answer), sum(seconds))

        def stages() -> list[Stage]:
            between = zip(DEVICE_STAGES, pairwise(laps.moments()[1:]), strict=False)
            return [Stage(stage, start, end, len(x)) for stage, (start, end) in between]

        return Computation(answer, afterwards, learn, ledger.expect, stages)

    def _outcome(self, x: Array, groups: Mapping[str, Array], *, causes: bool) -> tuple[Batch, Outcome, Laps]:
        """Fill the batch up to a static shape, so that the same rows give the same bits, and run it stage by stage."""
        n, size = len(x), self._bucket(len(x))
        laps = Laps(self.device)
        filled = Batch(
            self._copy_in(_fill(x, size)), {name: self._copy_in(_fill(codes, size)) for name, codes in groups.items()}
        )
        with self._device_lock:
            laps.mark()
            findings = self.pipeline.check_input(filled, causes=causes)
            laps.mark()
            with TURNS.given() if self._long_forward else nullcontext():
                filled = self.pipeline.forward(filled)
            laps.mark()
            outcome = self.pipeline.conclude(filled, findings | self.pipeline.check_output(filled, causes=causes))
            laps.mark()
        return filled[:n], outcome.first(n), laps

    def _copy_in(self, rows: Array) -> torch.Tensor:
        """Copy rows to the device; to a GPU from pinned memory, without waiting for it."""
        tensor = torch.from_numpy(rows)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _bucket(self, n: int) -> int:
        return min(1 << (n - 1).bit_length(), max(n, self.config.server.max_batch_rows))

    def _on_fault(self, fault: Exception) -> None:
        if fatal(fault):
            LOG.critical("the device is lost (%s): leaving, to be started again", type(fault).__name__)
            os._exit(DEVICE_LOST)
        LOG.error("a batch failed: %s", type(fault).__name__)


def _fill(rows: Array, size: int) -> Array:
    return rows if len(rows) == size else np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def _snapshots(folder: Path, bundle: Bundle, monitoring: Monitoring) -> Snapshots:
    configs = {params.name: params.model_dump_json() for params in bundle.config.monitors}
    return Snapshots(folder, model=bundle.config.name, bundle=bundle.id, configs=configs, monitoring=monitoring)


def load(bundle: Path, config_path: Path | None, config: Config | None) -> Bundle:
    """Read the bundle with the deploy-time config and the code beside it.

    Raises:
        Mistake: they do not belong together.
    """
    return Bundle.load(bundle, config=config, folder=None if config_path is None else config_path.resolve().parent)
