"""The monitors' slow work, in a process of its own: low in priority, started when first needed, again when it dies."""

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from guards.monitor import Arrays, Monitor, Work

__all__ = ["Worker"]

LOG = logging.getLogger("guardhouse")
WORK_SECONDS = 600.0
FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0
CLOSE_SECONDS = 5.0
FAR_AWAY = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""One thread, and no accelerator: whatever it computes must not be felt where predictions are made."""


class Worker:
    """Takes monitors' work one piece at a time, in a thread that waits for the process.

    Work that kills the process, or takes too long, is lost, and its monitor told so; the process is started again,
    later each time. What waits meanwhile is bounded by the monitors themselves.
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
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        """How often the process died since it last finished anything."""
        self._connection: Connection[object, object] | None = None
        self._thread: threading.Thread | None = None
        self._wanted, self._closed = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    def wake(self) -> None:
        """Say that there is work; called from one thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="monitors", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._closed.set()
        self._wanted.set()
        with self._lock:
            self._kill()
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
        try:
            connection = self._connect()
            connection.send((work.function, dict(work.task), dict(work.arrays)))
            if not connection.poll(self.seconds):
                raise TimeoutError
            answer = connection.recv()
        except (EOFError, OSError) as gone:
            self._restart_later(name, gone)
            return None
        self.failures = 0
        if isinstance(answer, dict):
            return answer
        LOG.error("monitor %s: a window was lost: %s", name, answer)
        return None

    def _connect(self) -> "Connection[object, object]":
        """Give the connection to the process, which is started where there is none.

        Raises:
            OSError: it cannot be started, or the server is closing.
        """
        with self._lock:
            if self._closed.is_set():
                raise BrokenPipeError
            if self._connection is None:
                ours, theirs = Pipe()
                with theirs:
                    self.process = _start(theirs)
                self._connection = ours
            return self._connection

    def _restart_later(self, name: str, reason: BaseException) -> None:
        if self._closed.is_set():
            return
        with self._lock:
            status = self._kill()
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        self.failures += 1
        delay = min(self.delay * 2 ** (self.failures - 1), LONGEST_DELAY)
        said = f"took longer than {self.seconds:g} s" if isinstance(reason, TimeoutError) else f"ended ({status})"
        LOG.error("the monitors' process %s at a window of %s; it is started again in %g s", said, name, delay)
        self._closed.wait(delay)

    def _kill(self) -> int | None:
        """Kill the process, where there is one, and say how it ended."""
        if self.process is None:
            return None
        self.process.kill()
        return self.process.wait()


def _start(connection: "Connection[object, object]") -> "subprocess.Popen[bytes]":
    known = dict(os.environ)
    with contextlib.suppress(FileNotFoundError):  # without a folder to write to, numba compiles anew each time
        known.setdefault("NUMBA_CACHE_DIR", tempfile.gettempdir())
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)  # noqa: PTH109 - an entry of an import path
    return subprocess.Popen(  # noqa: S603 - this very interpreter and module
        [sys.executable, "-W", "ignore", "-m", "service.work_process", str(connection.fileno()), str(os.getpid())],
        pass_fds=[connection.fileno()],
        env={**known, **FAR_AWAY, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
