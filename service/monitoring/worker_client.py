"""Runs the monitors' slow work in processes of low priority, which start when first needed and again if they die."""

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager

from guards.monitors.optional_methods import HasSlowWork
from guards.monitors.slow_work.client import WorkFailedError, WorkProcess
from guards.monitors.slow_work.work import Arrays, Work
from service.processes import LOWEST_PRIORITY, Delay

__all__ = ["Worker"]

LOG = logging.getLogger("guardhouse")
WORK_SECONDS = 600.0
FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0
CLOSE_SECONDS = 5.0
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""The environment that limits a process to one thread, so that its work does not slow down predictions."""


class Worker:
    """A thread that takes the monitors' work, one piece at a time, and waits until a process has done the work.

    There is one process for each Python interpreter that the work needs. If work kills its process or takes too long,
    the work is lost, and its monitor gets None as the result. The process is started again, after a longer delay each
    time. Meanwhile each monitor limits how much work waits.
    """

    def __init__(
        self,
        monitors: Sequence[HasSlowWork],
        asking: AbstractContextManager[object],
        *,
        seconds: float = WORK_SECONDS,
        delay: float = FIRST_DELAY,
    ) -> None:
        """Prepare without starting anything. The lock ``asking`` is held while a monitor is called.

        ``seconds`` is the limit for a piece of work. ``delay`` is the first delay before a process starts again.
        """
        self.monitors, self._asking, self.seconds = tuple(monitors), asking, seconds
        self.delay = Delay(delay, LONGEST_DELAY)
        self._processes: dict[str, WorkProcess] = {}
        self._thread: threading.Thread | None = None
        self._wanted, self._closed = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        for monitor in monitors:
            monitor.defer()

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process that runs this process's own Python interpreter; None if it was not started."""
        started = self._processes.get(sys.executable)
        return None if started is None else started.process

    def wake(self) -> None:
        """Wake the thread, because there is work; only one thread calls this."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="monitors", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """End the processes, even if they are working."""
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
            busy: Sequence[HasSlowWork] = self.monitors
            while (
                busy and not self._closed.is_set()
            ):  # in turn, so that no monitor waits for another that always has work
                busy = [monitor for monitor in self.monitors if self._one_of(monitor)]

    def _one_of(self, monitor: HasSlowWork) -> bool:
        """Do one piece of a monitor's work, if there is any."""
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
        except Exception as crash:  # noqa: BLE001 - a plug-in's code may raise anything
            LOG.error("monitor %s crashed: %s", monitor.name, type(crash).__name__)  # noqa: TRY400
        return True

    def _done(self, name: str, work: Work) -> Arrays | None:
        process = self._process_of(work)
        try:
            result = process.ask(work.function, work.task, work.arrays, seconds=self.seconds)
        except WorkFailedError as failure:  # only its class is logged: its message may hold data
            LOG.error("monitor %s: a window was lost: %s", name, failure.kind)  # noqa: TRY400
            result = None
        except (EOFError, OSError) as gone:
            self._restart_later(name, process, gone)
            return None
        self.delay.succeeded()
        return result

    def _process_of(self, work: Work) -> WorkProcess:
        python = work.python or sys.executable
        with self._lock:
            if python not in self._processes:
                self._processes[python] = WorkProcess(python, environment=ONE_THREAD, niceness=LOWEST_PRIORITY)
                if self._closed.is_set():
                    self._processes[python].close()
            return self._processes[python]

    def _restart_later(self, name: str, process: WorkProcess, reason: BaseException) -> None:
        if self._closed.is_set():
            return
        status = process.end()
        delay = self.delay.failed()
        said = f"took longer than {self.seconds:g} s" if isinstance(reason, TimeoutError) else f"ended ({status})"
        LOG.error("the monitors' process %s at a window of %s; it is started again in %g s", said, name, delay)
        self._closed.wait(delay)
