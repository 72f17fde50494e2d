"""Judges the monitors regularly, so that metrics and log show their states even if nobody asks for a report."""

import logging
import threading
import time
from collections.abc import Callable

from service.monitoring.live_monitors import Monitoring
from service.monitoring.sums import NoSumsError, Sums

__all__ = ["Watch"]

LOG = logging.getLogger("guardhouse")
WATCH_SECONDS = 1.0
"""How soon an alarm is in the metrics and in the log, in seconds."""
SETTLE_SECONDS = 3.0
"""For how long monitors are judged again after rows or outcomes were counted, which are stored a moment later."""
IDLE_SECONDS = 15.0
"""How often monitors are judged if this process counts nothing: another server on the database may have counted."""
SHARE = 0.05
"""The share of one core that judging may take. If judging takes long, as with many groups, it is done less often."""
CLOSE_SECONDS = 5.0


class Watch:
    """A thread that judges all monitors after new rows or outcomes were counted."""

    def __init__(self, monitoring: Monitoring, totals: Callable[[], Sums | None]) -> None:
        """Start the thread; ``totals`` returns the store's totals, None without a store, and may raise NoSumsError."""
        self._monitoring, self._totals = monitoring, totals
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
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
            except NoSumsError:  # the states stay as they are: this process's own counts are less complete
                pass
            except Exception as fault:  # noqa: BLE001 - if the thread ended, the states would never change again
                LOG.error("the monitors' states cannot be brought up to date: %s", type(fault).__name__)  # noqa: TRY400
            pause = (time.thread_time() - cpu) / SHARE
