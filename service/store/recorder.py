"""Keeps answered rows until they are stored: the device's thread fills a queue, and a thread empties the queue."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from service.messages.monitor_changes import Standing
from service.monitoring.sums import Tally
from service.store.database import StoreDownError
from service.store.rows import Answered
from service.store.settlement import Settlement
from service.store.store_client import StoreClient
from service.telemetry.store_figures import StoreFigures

__all__ = ["Recorder"]

LOG = logging.getLogger("guardhouse")
LINGER_SECONDS = 0.1
"""How long rows wait for more rows to share a transaction, which costs as much as a thousand rows."""
BLOCK_ROWS = 4096
RETRY_SECONDS = 1.0
POLL_SECONDS = 0.25
"""How often this server looks whether another server asks it to store its answered rows."""
LOOK_SECONDS = 0.25
"""How often a flush looks whether the store is down."""
FLUSH_SECONDS, CLOSE_SECONDS = 2.0, 5.0


class Recorder:
    """A queue with a limit of rows, and the thread that stores the queue's rows.

    Every batch takes a ticket before its answers are sent (:meth:`expect`), and is put into the queue afterwards
    (:meth:`leave`). So :meth:`flush` knows which batches were answered before the call, even if a batch is not in the
    queue yet.
    """

    def __init__(
        self,
        store: StoreClient | None,
        tally: Tally,
        *,
        queue_rows: int,
        count: Callable[[str, int], None],
        count_deleted: Callable[[str, int], None],
        hurry: Callable[[float], object] = lambda _: None,
        on_standing: Callable[[Standing], None] = lambda _: None,
    ) -> None:
        """Start the thread; ``count`` is called with how many rows were ``stored``, ``repeated`` or ``dropped``.

        ``count_deleted`` is called with a reason (``age`` or ``size``) and how many stored rows were deleted. Without a
        store, rows are counted and not stored. :meth:`flush` calls ``hurry`` with a number of seconds; the batcher has
        to call :meth:`leave` for all answered rows within that time. ``on_standing`` is called again and again
        with what admins changed about the monitors.
        """
        self._settlement = None if store is None else Settlement(store)
        self.store, self._tally, self._queue_rows = store, tally, queue_rows
        self._count, self._count_deleted, self._hurry_up, self._on_standing = count, count_deleted, hurry, on_standing
        self.figures = StoreFigures()
        """The store's figures at its last upkeep."""
        self._lock = threading.Lock()
        self._settling = threading.Condition(self._lock)
        self._queue: deque[tuple[int, Answered]] = deque()
        self.rows = self._expected = self._arrived = self._flushing = 0
        self._full = self._failed = False
        self._tried = threading.Event()
        self._wake, self._hurry, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._wake.set()  # so that the tables are prepared before the first row arrives
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    @property
    def down(self) -> bool:
        """Whether the last try to use the store failed, or the try that goes on has waited too long."""
        return self.store is not None and self.store.trouble.is_set()

    def wait_until_tried(self, seconds: float) -> None:
        """Wait until the store was tried for the first time: the server is entered among its servers, or it is down.

        A server that answers before the others know of it has rows for which no other server waits.
        """
        self._tried.wait(seconds)

    # Called by the device's thread

    def expect(self, tickets: int = 1) -> None:
        """Take tickets for rows whose answers are about to be sent; :meth:`leave` gets these rows later."""
        self._expected += tickets

    def leave(self, batch: Answered | None, tickets: int = 1) -> None:
        """Put the rows of so many tickets into the queue; ``batch`` is None if no row is to be stored.

        If too many rows already wait, the new rows are dropped. Without a store, rows are forgotten.
        """
        if self.store is None:
            batch = None
        with self._lock:
            first, self._arrived = self._arrived + 1, self._arrived + tickets
            full = batch is not None and self.rows + len(batch) > self._queue_rows
            if batch is not None and not full:
                self._queue.append((first, batch))
                self.rows += len(batch)
        if batch is not None and full:
            self._count("dropped", len(batch))
            if not self._full:
                LOG.error("%d answered rows wait to be stored: new rows are dropped, and counted as dropped", self.rows)
            self._full = True
        if self._flushing or self.rows >= BLOCK_ROWS:
            self._hurry.set()
        # Without rows, the recorder's thread has work only if somebody waits for these tickets.
        if (batch is not None or self._flushing) and not self._wake.is_set():
            self._wake.set()

    # Called by the threads that read

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until every expected batch is stored or dropped; return whether that happened within ``seconds``."""
        self._hurry_up(seconds)
        end = time.monotonic() + seconds
        with self._settling:
            ticket = self._expected
            self._flushing += 1
            self._hurry.set()
            try:
                while not self.down and self._settled < ticket and (left := end - time.monotonic()) > 0:
                    self._settling.wait(min(left, LOOK_SECONDS))
                return self._settled >= ticket and not self.down
            finally:
                self._flushing -= 1

    @property
    def _settled(self) -> int:
        """The last ticket up to which every batch is stored or dropped."""
        return self._queue[0][0] - 1 if self._queue else self._arrived

    def close(self) -> None:
        """Store the rows that wait, unless that takes too long, and stop."""
        for event in (self._closing, self._hurry, self._wake):
            event.set()
        self._thread.join(CLOSE_SECONDS)
        if self.rows:
            LOG.error("%d answered rows were not stored before the end", self.rows)
        if self.store is not None:
            self.store.close()

    # Called by the recorder's thread

    def _work(self) -> None:
        while True:
            if self._failed:
                self._closing.wait(RETRY_SECONDS)
            else:
                # Without a store there is nothing to delete, so only new rows wake the thread.
                self._wake.wait(None if self.store is None else POLL_SECONDS)
                if self._queue:
                    self._hurry.wait(LINGER_SECONDS)
            last = self._closing.is_set()
            self._wake.clear()
            self._hurry.clear()
            self._try()
            self._tried.set()
            with self._settling:
                self._settling.notify_all()
            if last:
                if self.store is not None and not self.down:
                    with suppress(StoreDownError):
                        self.store.leave()
                return

    def _next(self) -> list[Answered]:
        """Return the batches of the next block, without taking them out of the queue."""
        with self._lock:
            batches: list[Answered] = []
            rows = 0
            for _, batch in self._queue:
                if batches and rows + len(batch) > BLOCK_ROWS:
                    break
                batches.append(batch)
                rows += len(batch)
            return batches

    def _try(self) -> None:
        """Store every row that waits. While the database is down, rows keep waiting."""
        if self.store is None:
            return
        try:
            self.store.prepare()
            while True:
                if batches := self._next():
                    self._store(self.store, batches)
                self._keep_up(self.store)  # after each block, so that a long queue cannot exceed the size limit
                if not self._queue:
                    break
            if self.down:
                LOG.warning("the store is back")
            self._failed = self._full = False
            self.store.trouble.clear()
        except Exception as trouble:  # noqa: BLE001 - no error may stop the thread
            if not self.down:
                what = trouble if isinstance(trouble, StoreDownError) else type(trouble).__name__
                LOG.error("the store is down, and predictions go on: %s", what)  # noqa: TRY400
            self._failed = True
            self.store.trouble.set()

    def _keep_up(self, store: StoreClient) -> None:
        upkeep = store.upkeep()
        self._on_standing(upkeep.standing)
        if upkeep.unswept:
            store.sweep(self._tally)
        if self._settlement is not None:
            self._settlement.look(upkeep.asked, answered=self._expected, stored=self._settled)
        self.figures = upkeep.figures
        for reason, rows in upkeep.deleted.items():
            self._count_deleted(reason, rows)

    def _store(self, store: StoreClient, batches: Sequence[Answered]) -> None:
        """Store batches in one transaction, and take them out of the queue; if the data is at fault, drop them."""
        rows = sum(map(len, batches))
        try:
            stored = store.write(batches, self._tally)
        except StoreDownError:
            raise
        except Exception as fault:  # noqa: BLE001 - the data is at fault, so another try would fail too
            LOG.error("%d answered rows cannot be stored: %s", rows, type(fault).__name__)  # noqa: TRY400
            self._count("dropped", rows)
        else:
            self._count("stored", stored)
            self._count("repeated", rows - stored)
        with self._lock:
            for _ in batches:
                self._queue.popleft()
            self.rows -= rows
