"""The ledger: stores every answered row, and joins the row with its outcome when the outcome arrives."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from guards.bundle.bundle import Bundle
from guards.pipeline import Pipeline
from guards.types import Batch
from service.engine.feedback import RETRY_SECONDS, Feedback
from service.messages.answer import Answer
from service.messages.refused import Refused
from service.messages.scope import SCOPES, Scope
from service.monitoring.counts import layouts
from service.monitoring.live_monitors import Monitoring
from service.monitoring.released_sums import ReleasedSums
from service.monitoring.sums import Sums
from service.monitoring.watch import Watch
from service.single_flight import SingleFlight
from service.store.database import StoreDownError
from service.store.local_store import StoreSettings
from service.store.recorder import Recorder
from service.store.rows import Answered
from service.store.served_versions import Edition
from service.store.store_client import Jobs, StoreClient
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.store_figures import StoreFigures

__all__ = ["Ledger"]


class Ledger:
    """The ledger of one server. Without a store, rows are not stored, and there is no feedback."""

    def __init__(
        self,
        bundle: Bundle,
        pipeline: Pipeline,
        monitoring: Monitoring,
        metrics: EngineMetrics,
        open_store: Callable[[StoreSettings], StoreClient] | None,
        hurry: Callable[[float], object] = lambda _: None,
        smallest_count: int = 1,
    ) -> None:
        """Open the store, and start to store; ``hurry`` is for :class:`service.store.recorder.Recorder`.

        The totals that the monitors judge change by at least ``smallest_count`` rows at once.
        """
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
        self._whose = {"version": config.version, "bundle": bundle.id}
        jobs = config.explain.max_jobs, config.explain.keep_seconds
        self.store = store = None if open_store is None else open_store(StoreSettings(edition, config.store, *jobs))
        self.recorder = Recorder(
            store,
            monitoring.tally,
            queue_rows=config.store.queue_rows,
            count=lambda result, rows: metrics.stored.add(result, by=rows),
            count_deleted=metrics.count_deleted,
            hurry=hurry,
        )
        self._released = ReleasedSums(smallest_count)
        self._watch = Watch(
            monitoring,
            lambda: None if store is None else self._released.of("bundle", lambda: store.totals("bundle")),
        )
        self._reports = {scope: SingleFlight(partial(self._report, scope)) for scope in SCOPES}
        seconds = config.server.timeout_seconds
        self.feedback = (
            None if store is None else Feedback(store, self.recorder, monitoring, metrics, request_seconds=seconds)
        )

    def wait_until_tried(self, seconds: float) -> None:
        """Wait until the store was tried for the first time."""
        self.recorder.wait_until_tried(seconds)

    def expect(self, lessons: int = 1) -> None:
        """Note that the answers of ``lessons`` lessons are about to be sent; :meth:`note` or :meth:`forget` follows."""
        self.recorder.expect(lessons)

    def forget(self, lessons: int) -> None:
        """Give up lessons that were expected but could not be processed."""
        self.recorder.leave(None, lessons)

    def note(self, ids: Sequence[str], time: float, batch: Batch, answer: Answer, *, lessons: int = 1) -> None:
        """Store answered rows with their ids (n); ``time`` is in seconds since the epoch, ``lessons`` their number."""
        answered: Answered | None = None
        try:
            if self.store is not None:
                x = batch.x.cpu().numpy() if self._inputs else None
                answered = Answered.of(ids, time, answer, self._monitoring.groups_of(batch), x)
        finally:  # feedback waits until every expected lesson has arrived, so this line runs even after an error
            self.recorder.leave(answered, lessons)

    async def report(self, scope: Scope = "bundle") -> dict[str, Any]:
        """Report every monitor, from the totals of the store or, while the store is down, from this process's counts.

        If the scope is wider than the served bundle, the figures come from the store alone, and only the monitors
        that count have figures. Callers who ask at the same time share one report.

        Raises:
            Refused: the scope is wider than the bundle, and there is no store, or the store is down.
        """
        return await self._reports[scope]()

    async def _report(self, scope: Scope) -> dict[str, Any]:
        sums = None
        if not self.recorder.down:
            with contextlib.suppress(StoreDownError):
                sums = await asyncio.to_thread(self._totals, scope)
        if scope == "bundle":
            reported = await asyncio.to_thread(self._monitoring.report, sums)  # in a thread: it may wait for a monitor
            return {"of": scope, **self._whose} | reported
        if self.store is None:
            raise Refused("no_store", f"this server keeps no {scope}'s totals: store.enabled is false")
        if sums is None:
            raise Refused("store_down", "the store is down", retry_after=RETRY_SECONDS)
        bundles = [bundle or None for bundle in sums.bundles]
        return {"of": scope, "bundles": bundles} | await asyncio.to_thread(self._monitoring.report_aside, sums)

    def _totals(self, scope: Scope) -> Sums | None:
        """Give the store's totals of a scope, with all predictions answered before this call; None without a store."""
        store = self.store
        if store is None:
            return None
        self.recorder.flush()
        return self._released.of(scope, lambda: store.totals(scope))

    @property
    def figures(self) -> StoreFigures:
        """The store's figures for the metrics."""
        return replace(self.recorder.figures, down=self.recorder.down)

    @property
    def jobs(self) -> Jobs | None:
        """The store's explanations that are computed later; None without a store."""
        return None if self.store is None else self.store.jobs

    def close(self) -> None:
        """Store the rows that wait, and close the database."""
        try:
            self._watch.close()
            if self.feedback is not None:
                self.feedback.close()
        finally:
            self.recorder.close()
