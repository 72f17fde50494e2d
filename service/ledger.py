"""What becomes of every answered row: it is stored, and joined with its outcome."""

import asyncio
import contextlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from guards.bundle import Bundle
from guards.pipeline import Pipeline
from guards.types import Batch
from service.answer import Answer
from service.columns import Answered
from service.database import Database, StoreDownError
from service.editions import Edition
from service.feedback import RETRY_SECONDS, Feedback
from service.metrics import ModelMetrics
from service.monitoring import Monitoring
from service.protocols.problem import Problem, unavailable
from service.recorder import Recorder
from service.retention import Retention
from service.store import Store
from service.tallies import layouts
from service.totals import Owner, Scope
from service.watch import Watch

__all__ = ["Ledger"]


class Ledger:
    """One server's; without a database, rows are forgotten, and there is no feedback."""

    def __init__(
        self,
        bundle: Bundle,
        pipeline: Pipeline,
        monitoring: Monitoring,
        metrics: ModelMetrics,
        database: Database | None,
    ) -> None:
        config, classes = bundle.config, bundle.classes
        self._monitoring, self._inputs = monitoring, config.store.inputs
        edition = Edition(
            model=config.name,
            version=config.version,
            bundle=bundle.id,
            layouts=layouts(bundle.monitors, config),
            classes=classes,
            config=config.model_dump(mode="json"),
            thresholds=dict(zip(pipeline.names, pipeline.thresholds, strict=True)),
        )
        self._owner = Owner(config.version, bundle.id)
        self.store = store = None if database is None else Store(database, edition)
        retention = None if store is None else Retention(store, config.store, metrics.count_deleted)
        if retention is not None:
            metrics.store_figures = lambda: retention.figures
        self.recorder = Recorder(
            store,
            monitoring,
            classes=classes,
            guards=pipeline.names,
            queue_rows=config.store.queue_rows,
            retention=retention,
            count=lambda result, rows: metrics.stored.add(result, by=rows),
        )
        metrics.store_down = lambda: self.recorder.down
        self._watch = Watch(monitoring, lambda: None if store is None else store.totals())
        self.feedback = None if store is None else Feedback(store, self.recorder, monitoring, metrics, classes)

    def expect(self) -> None:
        """Know of a batch whose answers are about to leave, and that :meth:`note` will be told of."""
        self.recorder.expect()

    def note(self, ids: Sequence[str], time: float, batch: Batch, answer: Answer) -> None:
        """Take note of a batch's rows, one id each, after they were answered at ``time``."""
        answered: Answered | None = None
        try:
            x = batch.x.cpu().numpy() if self._inputs else None
            answered = Answered.of(ids, time, answer, self._monitoring.groups_of(batch), x)
        finally:  # feedback waits for it
            self.recorder.leave(answered)

    async def report(self, scope: Scope = "bundle") -> dict[str, Any]:
        """Report every monitor: by the totals of the store, or, while that is down, by what this process counted.

        Of more than the served bundle only the store knows, and only counting monitors have figures.

        Raises:
            Problem: 404 without a store and 503 while it is down, if the scope is wider than the bundle.
        """
        sums = None
        if not self.recorder.down:
            with contextlib.suppress(StoreDownError):
                sums = await asyncio.to_thread(self.recorder.totals, scope)
        if scope == "bundle":
            whose = {"of": scope, "version": self._owner.version, "bundle": self._owner.bundle}
            return whose | await asyncio.to_thread(self._monitoring.report, sums)  # may wait for a monitor
        if self.store is None:
            raise Problem(HTTPStatus.NOT_FOUND, f"this server keeps no {scope}'s totals: store.enabled is false")
        if sums is None:
            raise unavailable("the store is down", reason="store_down", retry_after=RETRY_SECONDS)
        bundles = [bundle or None for bundle in sums.bundles]
        return {"of": scope, "bundles": bundles} | await asyncio.to_thread(self._monitoring.report_aside, sums)

    def close(self) -> None:
        """Store what waits, and let go of the database."""
        try:
            self._watch.close()
            if self.feedback is not None:
                self.feedback.close()
        finally:
            self.recorder.close()
