"""The ledger: stores every answered row, and joins the row with its outcome when the outcome arrives."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from guards.bundle.bundle import Bundle
from guards.pipeline import Pipeline
from guards.types import Batch
from service.engine.feedback import FLUSH_SECONDS, RETRY_SECONDS, Feedback
from service.messages.answer import Answer
from service.messages.monitor_changes import Change, Standing
from service.messages.refused import Refused
from service.messages.scope import SCOPES, Scope
from service.monitoring.counts import layouts
from service.monitoring.live_monitors import Monitoring
from service.monitoring.released_sums import ReleasedSums
from service.monitoring.sums import Sums
from service.monitoring.teaching import Without
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

LOG = logging.getLogger("guardhouse")


class Ledger:
    """The ledger of one server. Without a store, rows are not stored, and there is no feedback."""

    def __init__(  # noqa: PLR0913, PLR0917 - what the rows of a server need
        self,
        bundle: Bundle,
        pipeline: Pipeline,
        monitoring: Monitoring,
        metrics: EngineMetrics,
        open_store: Callable[[StoreSettings], StoreClient] | None,
        hurry: Callable[[float], object] = lambda _: None,
        smallest_count: int = 1,
        on_standing: Callable[[Standing], None] = lambda _: None,
    ) -> None:
        """Open the store, and start to store; ``hurry`` and ``on_standing`` are for the recorder.

        The totals that the monitors judge change by at least ``smallest_count`` rows at once.
        """
        config, classes = bundle.config, bundle.classes
        self._monitoring, self._inputs, self._metrics = monitoring, config.store.inputs, metrics
        self._standing, self._on_standing = Standing(), on_standing
        edition = Edition(
            model=config.name,
            version=config.version,
            bundle=bundle.id,
            layouts=layouts(bundle.monitors, config),
            classes=classes,
            config=config.model_dump(mode="json"),
            thresholds=bundle.thresholds(pipeline),
        )
        self._whose = {"version": config.version, "bundle": bundle.id}
        jobs = config.explain.max_jobs, config.explain.keep_seconds
        self.store = store = None if open_store is None else open_store(StoreSettings(edition, config.store, *jobs))
        self._released = ReleasedSums(smallest_count)
        self.recorder = Recorder(
            store,
            monitoring.tally,
            queue_rows=config.store.queue_rows,
            count=lambda result, rows: metrics.stored.add(result, by=rows),
            count_deleted=metrics.count_deleted,
            hurry=hurry,
            on_standing=self._stand,
        )
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

    def note(
        self,
        ids: Sequence[str],
        time: float,
        batch: Batch,
        answer: Answer,
        without: Without | None = None,
        *,
        lessons: int = 1,
    ) -> None:
        """Store answered rows with their ids (n) and the rows that monitors do not count.

        ``time`` is in seconds since the epoch, ``lessons`` is the number of lessons.
        """
        answered: Answered | None = None
        try:
            if self.store is not None:
                x = batch.x.cpu().numpy() if self._inputs else None
                answered = Answered.of(ids, time, answer, self._monitoring.groups_of(batch), x, without)
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
            for name, entry in reported["monitors"].items():
                entry["skipped"] = self._metrics.skipped_by(name)
            return {"of": scope, **self._whose, **self._changes()} | reported
        if self.store is None:
            raise Refused("no_store", f"this server keeps no {scope}'s totals: store.enabled is false")
        if sums is None:
            raise Refused("store_down", "the store is down", retry_after=RETRY_SECONDS)
        bundles = [bundle or None for bundle in sums.bundles]
        reported = await asyncio.to_thread(self._monitoring.report_aside, sums)
        return {"of": scope, "bundles": bundles, **self._changes()} | reported

    def _changes(self) -> dict[str, Any]:
        return {"changes": [change.shown for change in self._standing.changes]}

    def _stand(self, standing: Standing) -> None:
        """Follow what admins have changed, on this server or on another server of the database."""
        if standing.number != self._standing.number:
            self._released.forget()  # an admin sees at once what became of the totals
        self._standing = standing
        self._on_standing(standing)

    async def change(self, change: Change) -> dict[str, Any]:
        """Record a change of the monitors, and follow the change on this server.

        Returns the change as ``/monitors`` shows it, and what became of the totals. Other servers of the database
        follow within a second.

        Raises:
            Refused: there is no store, the store is down, or the monitor cannot be reset.
        """
        store = self.store
        if store is None:
            raise Refused("no_store", "this server keeps no record of changes: store.enabled is false")
        if change.kind == "reset" and not self._monitoring.resets.possible(change.subject):
            raise Refused("no_reset", f"the monitor {change.subject} keeps nothing that can be reset")
        if not await asyncio.to_thread(self.recorder.flush, FLUSH_SECONDS):
            raise Refused("store_down", "the store is down; nothing is changed", retry_after=RETRY_SECONDS)
        try:
            changed = await asyncio.to_thread(store.change, change, self._monitoring.tally)
        except StoreDownError:
            detail = "the store is down; send the change again: a change that is recorded twice counts once"
            raise Refused("store_down", detail, retry_after=RETRY_SECONDS) from None
        self._stand(changed.standing)
        LOG.warning("monitors: %s asked for `%s %s`: %s", change.by, change.kind, change.subject, change.reason)
        kept = [] if change.kind == "reset" else self._monitoring.without_totals
        return {**changed.standing.changes[0].shown, "rows": changed.rows, "not_corrected": kept}

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
