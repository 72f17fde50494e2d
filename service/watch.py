"""Keeps the monitors' states up to date while nobody asks for a report: metrics and log rest on it."""

import logging
import threading
import time
from collections.abc import Callable

from service.database import StoreDownError
from service.monitoring import Monitoring
from service.totals import Sums

__all__ = ["Watch"]

LOG = logging.getLogger("guardhouse")
WATCH_SECONDS = 1.0
"""How soon an alarm is in metrics and log."""
SETTLE_SECONDS = 3.0
"""How long to look again after rows or outcomes were counted: they are in the store a moment later."""
IDLE_SECONDS = 15.0
"""How soon, if this process has counted nothing: another server on the same database may have."""
SHARE = 0.05
"""The share of one core that judging may take; with many groups it is judged less often."""
CLOSE_SECONDS = 5.0


class Watch:
    """A thread that judges all monitors once they have counted anything new."""

    def __init__(self, monitoring: Monitoring, totals: Callable[[], Sums | None]) -> None:
        """Start it; ``totals`` gives the store's totals, None without a store, and raises StoreDownError."""
        self._monitoring, self._totals = monitoring, totals
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        counted, changed_at, judged_at, pause = (0, 0), 0.0, 0.0, 0.0
        while not self._closing.wait(max(WATCH_SECONDS, pause)):
            now, started = (self._monitoring.batches, self._monitoring.outcomes), time.monotonic()
            if now != counted:
                counted, changed_at = now, started
            if started - changed_at > SETTLE_SECONDS and started - judged_at < IDLE_SECONDS:
                continue
            cpu = time.thread_time()
            try:
                self._monitoring.judge(self._totals())
                judged_at = started
            except StoreDownError:  # the states stay: what this process alone counted says less
                pass
            except Exception as fault:  # noqa: BLE001 - a thread that ended would leave the states as they are for ever
                LOG.error("the monitors' states cannot be brought up to date: %s", type(fault).__name__)  # noqa: TRY400
            pause = (time.thread_time() - cpu) / SHARE
