"""What a process knows of its supervisor, and what the supervisor's own process offers."""

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import ExitStack

import psutil
import pytest
from circus.exc import ConflictError
from tornado.ioloop import IOLoop

from service.lifecycle import supervisor

WORKER = """
import os, sys, threading
from service.lifecycle import supervisor
gone = threading.Event()
supervisor.watch(gone.set)
print(os.getpid(), flush=True)
sys.exit(0 if gone.wait(120) else 1)
"""
SUPERVISOR = """
import os, subprocess, sys, time
os.environ["GUARDHOUSE_SUPERVISOR"] = str(os.getpid())
subprocess.Popen([sys.executable, "-c", sys.argv[1]])
time.sleep(600)
"""


def test_a_killed_supervisor_is_noticed() -> None:
    """A worker learns within a second that its supervisor was killed."""
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, WORKER], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        parent.kill()
    assert not psutil.wait_procs([worker], 90)[1]  # and not after its own two minutes


def test_a_supervisor_that_died_before_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose supervisor died while it imported looks at another parent from the start."""
    monkeypatch.setenv(supervisor.SUPERVISOR, str(os.getpid()))  # nobody is its own parent
    gone = threading.Event()
    supervisor.watch(gone.set)
    assert gone.wait(90)


def test_a_process_without_a_supervisor_watches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without a supervisor does not stop, since no supervisor can be gone."""
    monkeypatch.delenv(supervisor.SUPERVISOR, raising=False)
    gone = threading.Event()
    supervisor.watch(gone.set)
    assert not gone.wait(0.6)


def test_only_the_supervisor_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the supervisor has died, the new parent gets no signal: it may be the machine's first process."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda *signal: told.append(signal))
    for pid in (os.getpid(), None):
        monkeypatch.setenv(supervisor.SUPERVISOR, str(pid or ""))
        supervisor.tell_to_stop()
    assert told == []
    monkeypatch.setenv(supervisor.SUPERVISOR, str(os.getppid()))
    supervisor.tell_to_stop()
    assert told == [(os.getppid(), 15)]


class Arbiter:
    """A supervisor that is busy for a while, as when it starts its worker; what BentoML does at its end fails."""

    def __init__(self, loop: IOLoop, busy: int, failing: bool) -> None:
        self.loop, self._busy, self._failing = loop, busy, failing
        self._stopping = False
        self.exit_stack = ExitStack()
        self.exit_stack.callback(lambda: 1 / 0)
        self.asked = 0

    def stop(self) -> "asyncio.Future[None]":
        self.asked += 1
        if self.asked <= self._busy:
            raise ConflictError("arbiter is already running manage_watchers command")
        self._stopping = True
        done: asyncio.Future[None] = asyncio.Future()
        if self._failing:
            done.set_exception(psutil.AccessDenied(1))
        else:
            self.loop.stop()
        return done


@pytest.mark.parametrize(("busy", "failing"), [(0, False), (3, False), (1, True)])
def test_a_signal_is_not_forgotten(busy: int, failing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that is busy when SIGTERM arrives stops afterwards, whatever fails meanwhile."""
    monkeypatch.setattr("circus.arbiter.Arbiter.stop", Arbiter.stop)

    async def main() -> Arbiter:
        loop = IOLoop.current()
        over = asyncio.Event()
        monkeypatch.setattr(loop, "stop", over.set)
        arbiter = Arbiter(loop, busy, failing)
        supervisor._stop(arbiter)
        supervisor._stop(arbiter)
        await asyncio.wait_for(over.wait(), 90)
        supervisor._stop(arbiter)
        return arbiter

    arbiter = asyncio.run(main())
    assert arbiter._stopping
    assert arbiter.asked >= busy + 1


def test_a_check_is_left_out_while_the_supervisor_starts_processes() -> None:
    """A check that circus refuses because it is busy is no error; the next check looks."""
    said = iter([ConflictError("arbiter is already running arbiter_start_watchers command"), None])

    class Busy:
        def manage_watchers(self) -> str:
            if (refused := next(said)) is not None:
                raise refused
            return "looked"

    arbiter = Busy()
    supervisor.check_in_turn(arbiter)
    assert [arbiter.manage_watchers(), arbiter.manage_watchers()] == [None, "looked"]
