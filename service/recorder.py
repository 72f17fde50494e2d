"""Takes note of answered rows off the hot path: the device's thread leaves a batch here, and a writer stores it."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from service.columns import Answered, Block
from service.database import StoreDownError
from service.monitoring import Monitoring
from service.replicas import Replicas, own_name
from service.retention import Retention
from service.store import Store
from service.tallies import Tallies
from service.totals import Scope, Sums

__all__ = ["Recorder"]

LOG = logging.getLogger("guardhouse")
LINGER_SECONDS = 0.1
"""How long rows wait for others to be written together with: a transaction costs as much as a thousand rows."""
BLOCK_ROWS = 4096
RETRY_SECONDS = 1.0
POLL_SECONDS = 0.25
"""How often this server looks whether another one asks for what it has answered."""
FLUSH_SECONDS, CLOSE_SECONDS = 2.0, 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A block with what the monitors count of it, that is not stored yet; ``ticket`` is of its first batch."""

    block: Block
    tallies: Tallies
    ticket: int


class Recorder:
    """A queue bounded in rows, and the thread that empties it.

    Every batch takes a ticket before its answers leave (:meth:`expect`), and is left here after (:meth:`leave`): so
    :meth:`flush` knows what was answered before it was called, whether it has arrived here or not.
    """

    def __init__(
        self,
        store: Store | None,
        monitoring: Monitoring,
        *,
        classes: Sequence[str],
        guards: Sequence[str],
        queue_rows: int,
        retention: Retention | None,
        count: Callable[[str, int], None],
    ) -> None:
        """Start the writer; ``count`` is told how many rows were ``stored``, ``repeated`` or ``dropped``.

        ``retention`` deletes what is too old or too much. Without a store, rows are forgotten.
        """
        self.store, self.monitoring, self._count = store, monitoring, count
        self._classes, self._guards, self._queue_rows = tuple(classes), tuple(guards), queue_rows
        self._retention = retention
        self.replicas = None if store is None else Replicas(store, own_name())
        self._asked, self._asked_at, self._settled_number = 0, 0, -1
        self._lock = threading.Lock()
        self._settling = threading.Condition(self._lock)
        self._queue: deque[tuple[int, Answered]] = deque()
        self._waiting: deque[Waiting] = deque()
        self.rows = self._expected = self._arrived = self._flushing = 0
        self._full = self.down = False
        self._wake, self._hurry, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._wake.set()  # the tables are to be there before the first row
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    # The device's thread

    def expect(self) -> None:
        """Take a ticket for a batch whose answers are about to leave, and that will be left here."""
        self._expected += 1

    def leave(self, batch: Answered | None) -> None:
        """Leave a batch, or None where none could be made; where too many rows wait already, it is dropped."""
        with self._lock:
            self._arrived += 1
            full = batch is not None and self.rows + len(batch) > self._queue_rows
            if batch is not None and not full:
                self._queue.append((self._arrived, batch))
                self.rows += len(batch)
        if batch is not None and full:
            self._count("dropped", len(batch))
            if not self._full:
                LOG.error("%d answered rows wait to be stored: those that come now are dropped, and counted", self.rows)
            self._full = True
        if self._flushing or self.rows >= BLOCK_ROWS:
            self._hurry.set()
        if not self._wake.is_set():
            self._wake.set()

    # Whoever asks

    def flush(self, seconds: float) -> bool:
        """Wait until every batch that was expected is stored, or dropped; tell whether that took no longer."""
        with self._settling:
            ticket = self._expected
            self._flushing += 1
            self._hurry.set()
            try:
                return self._settling.wait_for(lambda: self.down or self._settled >= ticket, seconds) and not self.down
            finally:
                self._flushing -= 1

    def totals(self, scope: Scope = "bundle") -> Sums | None:
        """Give the store's totals of a scope; None if there is no store.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        self.flush(FLUSH_SECONDS)  # who asks after a prediction was answered is to find it counted
        return None if self.store is None else self.store.totals(scope)

    @property
    def _settled(self) -> int:
        """The ticket up to which nothing waits."""
        if self._waiting:
            return self._waiting[0].ticket - 1
        return self._queue[0][0] - 1 if self._queue else self._arrived

    def close(self) -> None:
        """Store what waits, unless that takes too long, and stop."""
        for event in (self._closing, self._hurry, self._wake):
            event.set()
        self._thread.join(CLOSE_SECONDS)
        if self.rows:
            LOG.error("%d answered rows were not stored before the end", self.rows)
        if self.store is not None:
            self.store.database.close()

    # The writer's thread

    def _work(self) -> None:
        while True:
            if self.down:
                self._closing.wait(RETRY_SECONDS)
            else:
                # Without a store there is nothing to clear away, and nothing to wake up for but rows.
                self._wake.wait(None if self.store is None else POLL_SECONDS)
                if self._queue:
                    self._hurry.wait(LINGER_SECONDS)
            last = self._closing.is_set()
            self._wake.clear()
            self._hurry.clear()
            self._gather()
            self._try()
            with self._settling:
                self._settling.notify_all()
            if last:
                self._leave()
                return

    def _gather(self) -> None:
        """Make blocks of what is in the queue, with what the monitors count of them."""
        while self._queue:
            batches = self._next()
            rows = sum(len(batch) for _, batch in batches)
            made: Waiting | None = None
            try:
                block = Block([batch for _, batch in batches], classes=self._classes, guards=self._guards)
                tallies = self.monitoring.tally(block.records)
                made = Waiting(block, tallies, batches[0][0])
            except Exception as fault:  # noqa: BLE001 - it must not stop the writer
                self._give_up(rows, fault)
            with self._lock:  # in one step: rows are at no time in neither
                for _ in batches:
                    self._queue.popleft()
                if made is not None and self.store is not None:
                    self._waiting.append(made)
                else:
                    self.rows -= rows

    def _next(self) -> list[tuple[int, Answered]]:
        """Look at the batches that make the next block."""
        with self._lock:
            batches: list[tuple[int, Answered]] = []
            rows = 0
            for ticket, batch in self._queue:
                if batches and rows + len(batch) > BLOCK_ROWS:
                    break
                batches.append((ticket, batch))
                rows += len(batch)
            return batches

    def _try(self) -> None:
        """Store every block there is; while the database is down, they stay where they are."""
        if self.store is None:
            return
        try:
            self.store.prepare()
            while self._waiting:
                self._store(self.store, self._waiting[0])
                self._delete()  # between blocks, so that a long queue cannot outgrow the bound
            if self.down:
                LOG.warning("the store is back")
            self.down = self._full = False
            self._delete()
            self._settle()
        except Exception as trouble:  # noqa: BLE001 - whatever it is, it must not stop the writer
            if not self.down:
                what = trouble if isinstance(trouble, StoreDownError) else type(trouble).__name__
                LOG.error("the store is down, and predictions go on: %s", what)  # noqa: TRY400
            self.down = True

    def _settle(self) -> None:
        """Tell a server that asks for it when everything is stored that was answered here before it asked."""
        if self.replicas is None:
            return
        asked = None if self._settled_number < 0 else self.replicas.asked()
        if asked is None:
            self.replicas.enter()
            self._asked = self._settled_number = 0
        elif asked != self._asked:
            self._asked, self._asked_at = asked, self._expected
        if self._asked != self._settled_number and self._settled >= self._asked_at:
            self.replicas.settle(self._asked)
            self._settled_number = self._asked

    def _leave(self) -> None:
        if self.replicas is not None and not self.down:
            with suppress(StoreDownError):
                self.replicas.leave()

    def _delete(self) -> None:
        if self._retention is not None:
            self._retention.keep()

    def _store(self, store: Store, waiting: Waiting) -> None:
        try:
            stored = store.write(waiting.block, waiting.tallies, self.monitoring.tally)
        except StoreDownError:
            raise
        except Exception as fault:  # noqa: BLE001 - of the data, and not of the database: it would never be taken
            self._give_up(len(waiting.block), fault)
        else:
            self._count("stored", stored)
            self._count("repeated", len(waiting.block) - stored)
        with self._lock:
            self.rows -= len(self._waiting.popleft().block)

    def _give_up(self, rows: int, fault: Exception) -> None:
        LOG.error("%d answered rows cannot be stored: %s", rows, type(fault).__name__)
        self._count("dropped", rows)
