"""The store's process as the engine sees it: the engine starts the process, and starts it again if it ends."""

import logging
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from guards.errors import Mistake
from service.messages import frames
from service.processes import Delay
from service.store.local_store import StoreSettings

__all__ = ["StoreProcess"]

LOG = logging.getLogger("guardhouse")
MODULE = "service.store.store_server"
START_SECONDS = 60.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
LONG_ENOUGH = 20.0
"""If the process lived for so many seconds, its end does not count as a repeated failure."""
CLOSE_SECONDS = 3.0
FAILED = "the store's process could not be started; its log lines say why"


class StoreProcess:
    """One process that runs :mod:`service.store.store_server`; a thread starts it again whenever it ends.

    The thread that starts the process may end before the process. So the process does not ask the kernel to end with
    that thread: it ends when its standard input is closed, which also happens if the engine is killed.
    """

    def __init__(self, path: Path, url: str, settings: StoreSettings) -> None:
        """Start the process, which listens on a Unix socket at ``path``, and wait until it is ready.

        Raises:
            Mistake: the database at ``url`` cannot be used, or the process could not be started.
        """
        self._path = str(path)
        level = logging.getLevelName(LOG.getEffectiveLevel()).lower()
        self._opening = frames.pack({"url": url, "settings": settings.written(), "log_level": level})
        self._closing = threading.Event()
        self._delay = Delay(FIRST_DELAY, LONGEST_DELAY)
        self._started = 0.0
        self.shared = False
        """Whether other servers may use the database."""
        self._process = self._start()
        threading.Thread(target=self._keep_alive, name="store", daemon=True).start()

    def close(self) -> None:
        """Let the process finish its transactions and end."""
        self._closing.set()
        process = self._process
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            LOG.error("the store's process did not end, and is killed")  # noqa: TRY400
            process.kill()
        _reap(process)

    def _start(self) -> "subprocess.Popen[bytes]":
        self._started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - this server's own module
            [sys.executable, "-P", "-m", MODULE, self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # a terminal's Ctrl-C must not end the process before the last rows are stored
        )
        said = None
        with suppress(OSError, ValueError):
            assert process.stdin is not None  # noqa: S101 - a pipe
            assert process.stdout is not None  # noqa: S101 - a pipe
            process.stdin.write(self._opening)
            process.stdin.flush()
            if select.select([process.stdout], [], [], START_SECONDS)[0]:
                said = frames.read(process.stdout)
        if said is None or "mistake" in said[0]:
            process.kill()
            _reap(process)
            raise Mistake(FAILED if said is None else said[0]["mistake"])
        self.shared = said[0]["shared"]
        return process

    def _keep_alive(self) -> None:
        """Start the process again whenever it ends."""
        while True:
            status = self._process.wait()
            if self._closing.is_set():
                return
            _reap(self._process)
            if time.monotonic() - self._started > LONG_ENOUGH:
                self._delay.succeeded()
            delay = self._delay.failed()
            LOG.error("the store's process ended (status %s); it is started again in %g s", status, delay)
            if self._closing.wait(delay):
                return
            try:
                self._process = self._start()
            except (Mistake, OSError) as failure:
                LOG.error("the store's process: %s", failure)  # noqa: TRY400


def _reap(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of the process, and close the pipes to it."""
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # bytes that the process did not read
                pipe.close()
