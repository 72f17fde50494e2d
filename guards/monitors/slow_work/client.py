"""The client of a process that does the slow work of monitors, with this interpreter or with another one."""

import atexit
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.monitors.slow_work import process as work_process

__all__ = ["WorkFailedError", "WorkProcess", "shared"]

Arrays = Mapping[str, npt.NDArray[np.generic]]
NO_ACCELERATOR = {"CUDA_VISIBLE_DEVICES": ""}


class WorkFailedError(RuntimeError):
    """A piece of work failed. ``kind`` is the name of the exception; the message may contain data of rows."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why if kind == "ValueError" else f"{kind}: {why}")
        self.kind = kind


class WorkProcess:
    """A process that does one piece of work at a time. The first piece starts the process, without an accelerator."""

    def __init__(
        self, python: str = sys.executable, *, environment: Mapping[str, str] | None = None, niceness: int = 0
    ) -> None:
        """Set the interpreter ``python``, and variables that are added to this process's; start no process yet."""
        self.python, self.environment, self.niceness = python, dict(environment or {}), niceness
        self.process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._asking, self._starting = threading.Lock(), threading.Lock()
        self._closed = False

    def ask(self, function: str, task: Mapping[str, Any], arrays: Arrays, *, seconds: float | None = None) -> Arrays:
        """Let the process call ``function``, which is ``module:name``, with ``task``, which is JSON, and ``arrays``.

        Raises:
            WorkFailedError: the function raised an exception, or an argument or a result holds Python objects.
            TimeoutError: the process took longer than ``seconds``. Call ``end`` afterwards.
            EOFError, OSError: the process ended, could not be started, or was closed. Call ``end`` afterwards.
        """
        try:
            message = work_process.encode({"function": function, "task": dict(task)}, arrays)
        except TypeError as odd:
            raise WorkFailedError("TypeError", str(odd)) from odd
        with self._asking:
            connection = self._connected()
            for part in message:
                connection.send_bytes(part)
            if not connection.poll(seconds):
                raise TimeoutError
            head, found = work_process.receive(connection)
        if "failed" in head:
            raise WorkFailedError(head["failed"], head["why"])
        return found

    def run(self, function: str, task: Mapping[str, Any], arrays: Arrays) -> Arrays:
        """Do what ``ask`` does, without a time limit.

        Raises:
            WorkFailedError: the function raised an exception, or the process ended.
        """
        try:
            return self.ask(function, task, arrays)
        except (EOFError, OSError) as gone:
            raise WorkFailedError(type(gone).__name__, f"the process of {self.python} ended ({self.end()})") from gone

    def end(self) -> int | None:
        """Kill the process, if there is one, and give its exit status; the next piece of work starts a new process."""
        with self._starting:
            status = self._kill()
            if self._connection is not None:
                self._connection.close()
            self.process = self._connection = None
            return status

    def close(self) -> None:
        """Kill the process and never start another; a thread that waits for a result gets an EOFError."""
        with self._starting:
            self._closed = True
            self._kill()

    def _kill(self) -> int | None:
        if self.process is None:
            return None
        self.process.kill()
        return self.process.wait()

    def _connected(self) -> "Connection[Any, Any]":
        with self._starting:
            if self._closed:
                raise BrokenPipeError
            if self._connection is None:
                ours, theirs = Pipe()
                with theirs:
                    self.process = self._start(theirs.fileno())
                self._connection = ours
            return self._connection

    def _start(self, descriptor: int) -> "subprocess.Popen[bytes]":
        known = {**os.environ, **NO_ACCELERATOR, **self.environment}
        with contextlib.suppress(FileNotFoundError):  # without a writable folder numba compiles every time
            known.setdefault("NUMBA_CACHE_DIR", tempfile.gettempdir())
        if self.python == sys.executable:
            flags = ["-P"]  # keep the program's folder off the import path
            entries = [folder or str(Path.cwd()) for folder in sys.path]
            known["PYTHONPATH"] = os.pathsep.join(entries)
        else:
            flags = ["-I"]  # nothing of this interpreter's packages
        program = [work_process.__file__, str(descriptor), str(os.getpid()), str(self.niceness)]
        return subprocess.Popen(  # noqa: S603 - an interpreter that was configured, and our own program
            [self.python, *flags, "-W", "ignore", *program],
            pass_fds=[descriptor],
            env=known,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )


@cache
def shared(python: str) -> WorkProcess:
    """Give the process of an interpreter that all fits and replays share; the process ends with this one."""
    process = WorkProcess(python)
    atexit.register(process.close)
    return process
