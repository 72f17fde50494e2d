"""Child processes: they run at the lowest priority, end with their parent, and are started again if they die."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.messages.frames import Frame, pack, read_async

__all__ = ["LOWEST_PRIORITY", "ChildProcess", "Delay", "EndedError", "step_back"]

LOWEST_PRIORITY = 19
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
START_SECONDS = 300.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
MOST_DOUBLINGS = 64
"""A bound on the exponent of the delay. Without it, many failures would make the power too large for a float."""


class EndedError(Exception):
    """The process could not be started, or ended before it answered; ``status`` is its exit status, if it has one."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {'unknown' if status is None else status}")
        self.status = status


class Delay:
    """How long to wait before a process is started again: ``first`` seconds, then twice as long each time."""

    def __init__(self, first: float, longest: float) -> None:
        self.first, self.longest = first, longest
        self.failures = 0
        """How often the process has failed since it last succeeded."""

    def failed(self) -> float:
        """Count a failure, and give the seconds to wait before the next start."""
        self.failures += 1
        return float(min(self.first * 2 ** min(self.failures - 1, MOST_DOUBLINGS), self.longest))

    def succeeded(self) -> None:
        """Forget the failures."""
        self.failures = 0


class ChildProcess:
    """A process that runs a module of this server, and answers one question at a time.

    The process reads frames (:mod:`service.messages.frames`) from its standard input and writes frames to its standard
    output; the first frame says that the process is ready. A start that failed is tried again only after a delay.
    """

    def __init__(self, module: str, *arguments: str, delay: Delay | None = None) -> None:
        """Start nothing yet."""
        self._command = (sys.executable, "-m", module, *arguments)
        self._delay = delay or Delay(FIRST_DELAY, LONGEST_DELAY)
        self._not_before = 0.0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process if it does not run, and wait until it is ready.

        Raises:
            EndedError: the process could not be started, ended, or was not ready within five minutes.
        """
        if self._process is not None and self._process.returncode is None:
            return
        await self.end()
        await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
        try:
            async with asyncio.timeout(START_SECONDS):
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    start_new_session=True,  # a terminal's Ctrl-C must not end the process before its answer
                )
                await self._receive()
        except (EOFError, OSError, TypeError, ValueError) as failure:
            self._not_before = time.monotonic() + self._delay.failed()
            raise EndedError(await self.end()) from failure
        except asyncio.CancelledError:
            await self.end()
            raise
        self._delay.succeeded()

    async def ask(self, head: Mapping[str, Any], body: bytes) -> Frame:
        """Ask the running process a question.

        If the caller stops waiting, it has to call :meth:`end`. Otherwise the next question would get the answer to
        this question.

        Raises:
            EndedError: the process ended, or did not answer in a frame.
        """
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        try:
            self._process.stdin.write(pack(head, body))
            await self._process.stdin.drain()
            return await self._receive()
        except (EOFError, OSError, TypeError, ValueError) as failure:
            raise EndedError(await self.end()) from failure

    async def end(self) -> int | None:
        """Kill the process if it is there, and give its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                # Not `process.kill()`: it asks for the exit status first. If the process has just ended, that takes the
                # status from the thread in which asyncio waits for the status, and asyncio then reports 255.
                os.kill(process.pid, signal.SIGKILL)
        status = await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - or its pipes outlive the loop
        return status

    async def _receive(self) -> Frame:
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        return await read_async(self._process.stdout)


# The function below runs in the child process.


def step_back() -> None:
    """Let every other process run first, and be the first process to be killed if memory runs out or the parent ends.

    The kernel kills the child when the *thread* that started it ends. So start child processes from an event loop in
    the main thread, which lives as long as the process.
    """
    with contextlib.suppress(OSError):  # a container may forbid each of these calls; the process works without them
        os.nice(LOWEST_PRIORITY)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # With this policy, any other process that becomes ready takes the processor from this process at once.
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(OSError):  # without this call, the process ends when its input ends
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
