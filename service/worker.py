"""The monitors' slow work, in processes of low priority: started when first needed, and again when they die."""

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager

from guards.monitor import Arrays, Monitor, Work
from guards.work_client import WorkFailedError, WorkProcess

__all__ = ["Worker"]

LOG = logging.getLogger("guardhouse")
WORK_SECONDS = 600.0
FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0
CLOSE_SECONDS = 5.0
NICENESS = 19
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Whatever a process computes must not be felt where predictions are made."""


class Worker:
    """Takes monitors' work one piece at a time, in a thread that waits for the process that does it.

    There is one process for each interpreter that the work needs. Work that kills its process, or takes too long, is
    lost, and its monitor told so; the process is started again, later each time. What waits meanwhile is bounded by
    the monitors themselves.
    """

    def __init__(
        self,
        monitors: Sequence[Monitor],
        asking: AbstractContextManager[object],
        *,
        seconds: float = WORK_SECONDS,
        delay: float = FIRST_DELAY,
    ) -> None:
        """Start nothing yet; ``asking`` is held while a monitor is asked or told something.

        ``seconds`` bounds a piece of work, ``delay`` is the first before a new start.
        """
        self.monitors, self._asking, self.seconds, self.delay = tuple(monitors), asking, seconds, delay
        self.failures = 0
        """How often a process died since one last finished anything."""
        self._processes: dict[str, WorkProcess] = {}
        self._thread: threading.Thread | None = None
        self._wanted, self._closed = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process of this very interpreter, if it was started."""
        started = self._processes.get(sys.executable)
        return None if started is None else started.process

    def wake(self) -> None:
        """Say that there is work; called from one thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="monitors", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        with self._lock:
            self._closed.set()
            started = list(self._processes.values())
        self._wanted.set()
        for process in started:
            process.close()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _serve(self) -> None:
        while not self._closed.is_set():
            self._wanted.wait()
            self._wanted.clear()
            busy: Sequence[Monitor] = self.monitors
            while busy and not self._closed.is_set():  # in turn, so that none waits for one that always has more
                busy = [monitor for monitor in self.monitors if self._one_of(monitor)]

    def _one_of(self, monitor: Monitor) -> bool:
        """Do one piece of a monitor's work, where there is any."""
        if self._closed.is_set():
            return False
        try:
            with self._asking:
                work = monitor.pending()
            if work is None:
                return False
            result = self._done(monitor.name, work)
            with self._asking:
                monitor.settle(result)
        except Exception as crash:  # noqa: BLE001 - a third party's code
            LOG.error("monitor %s crashed: %s", monitor.name, type(crash).__name__)  # noqa: TRY400
        return True

    def _done(self, name: str, work: Work) -> Arrays | None:
        process = self._process_of(work)
        try:
            result = process.ask(work.function, work.task, work.arrays, seconds=self.seconds)
        except WorkFailedError as failure:  # its message may hold data
            LOG.error("monitor %s: a window was lost: %s", name, failure.kind)  # noqa: TRY400
            result = None
        except (EOFError, OSError) as gone:
            self._restart_later(name, process, gone)
            return None
        self.failures = 0
        return result

    def _process_of(self, work: Work) -> WorkProcess:
        python = work.python or sys.executable
        with self._lock:
            if python not in self._processes:
                self._processes[python] = WorkProcess(python, environment=ONE_THREAD, niceness=NICENESS)
                if self._closed.is_set():
                    self._processes[python].close()
            return self._processes[python]

    def _restart_later(self, name: str, process: WorkProcess, reason: BaseException) -> None:
        if self._closed.is_set():
            return
        status = process.end()
        self.failures += 1
        delay = min(self.delay * 2 ** (self.failures - 1), LONGEST_DELAY)
        said = f"took longer than {self.seconds:g} s" if isinstance(reason, TimeoutError) else f"ended ({status})"
        LOG.error("the monitors' process %s at a window of %s; it is started again in %g s", said, name, delay)
        self._closed.wait(delay)
