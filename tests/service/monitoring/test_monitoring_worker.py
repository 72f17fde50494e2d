"""The process of the monitors' slow work may die, hang or fall behind, without effect on anything else."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
import torch
from waiting import until

from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context, Monitor, MonitorParams, Statistic
from guards.monitors.slow_monitor import SlowMonitor
from guards.monitors.slow_work.work import Arrays, Work
from guards.types import Batch, Result
from service.monitoring.live_monitors import Monitoring
from service.monitoring.worker_client import Worker

SCHEMA = InputSchema(kind="tabular", shape=(1,), columns=(Column(name="age", kind="numeric"),))
MOST = 3


class SlowParams(MonitorParams):
    """Parameters of a monitor with slow work."""

    kind: Literal["slow"] = "slow"


class Slow(SlowMonitor):
    """Has a piece of work for every batch, and keeps three of them at most."""

    Params = SlowParams

    def __init__(self, name: str = "slow", function: str = "double", **task: Any) -> None:
        super().__init__(SlowParams(name=name), Context(SCHEMA, (), ()))
        self.function, self.task = function, task
        self.left: list[Work] = []
        self.results: list[Arrays | None] = []
        self.seen = self.dropped = 0

    def observe(self, batch: Batch, outcome: Result) -> None:
        del batch, outcome
        self.seen += 1
        if len(self.left) == MOST:
            self.left.pop(0)
            self.dropped += 1
        self.left.append(Work(f"slow_functions:{self.function}", self.task, {"value": np.asarray(self.seen)}))

    @property
    def waiting(self) -> int:
        return len(self.left)

    def pending(self) -> Work | None:
        return self.left.pop(0) if self.left else None

    def settle(self, result: Arrays | None) -> None:
        self.results.append(result)

    def report(self) -> list[Statistic]:
        return [Statistic("seen", float(self.seen))]

    @property
    def doubled(self) -> list[int]:
        """The result of the work."""
        return [int(result["twice"]) for result in self.results if result is not None]


@pytest.fixture
def watch() -> Iterator[Callable[..., Monitoring]]:
    """Watch by monitors, with a process that is started again without much delay."""
    started: list[Monitoring] = []

    def make(*monitors: Monitor, **options: Any) -> Monitoring:
        monitoring = Monitoring(monitors)
        monitoring.worker = Worker(monitors, monitoring._lock, **{"delay": 0.01, **options})
        started.append(monitoring)
        return monitoring

    yield make
    for each in started:
        each.close()
        process = each.worker.process
        assert process is None or process.poll() is not None


def observe(monitoring: Monitoring, batches: int = 1) -> None:
    outcome: Any = None
    for _ in range(batches):
        monitoring.observe(Batch(torch.zeros(1, 1)), outcome)


def test_work_is_done_elsewhere_and_only_when_there_is_any(watch: Callable[..., Monitoring]) -> None:
    """No process is started before there is work; then results come back in order, from a modest process."""
    monitor, modest = Slow(), Slow("modest", "describe")
    monitoring = watch(monitor, modest)
    assert monitoring.worker.process is None
    assert monitor._deferred
    for batch in range(1, 4):
        observe(monitoring)
        until(lambda expected=batch: len(monitor.results) == len(modest.results) == expected)
    assert monitor.doubled == [2, 4, 6]
    assert monitoring.worker.process is not None
    assert monitoring.worker.process.pid != os.getpid()
    result = modest.results[0]
    assert result is not None
    assert (int(result["nice"]), int(result["threads"])) == (19, 1)


def test_a_killed_process_is_started_again(watch: Callable[..., Monitoring], caplog: pytest.LogCaptureFixture) -> None:
    """Work in progress is reported as lost, the log has a line about it, and another process does later work."""
    monitor = Slow()
    monitoring = watch(monitor)
    observe(monitoring)
    until(lambda: monitor.doubled == [2])
    assert monitoring.worker.process is not None
    first = monitoring.worker.process.pid
    os.kill(first, signal.SIGKILL)
    observe(monitoring)
    until(lambda: len(monitor.results) == 2)
    assert monitor.results[1] is None
    assert "the monitors' process ended (-9) at a window of slow; it is started again in 0.01 s" in caplog.text
    observe(monitoring)
    until(lambda: monitor.doubled == [2, 6])
    assert monitoring.worker.process.pid != first
    assert monitoring.worker.delay.failures == 0


def test_work_that_kills_or_hangs_is_given_up(
    watch: Callable[..., Monitoring], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A failure loses one window of one monitor, and the delay doubles while nothing succeeds."""
    deadly = Slow("deadly", "die")
    monitoring = watch(deadly, delay=0.001)
    observe(monitoring, 2)
    until(lambda: deadly.results == [None, None])
    assert "again in 0.001 s" in caplog.text
    assert "again in 0.002 s" in caplog.text
    endless = Slow("endless", "wait", until=str(tmp_path / "never"))
    monitoring = watch(endless, seconds=0.5)
    observe(monitoring)
    until(lambda: endless.results == [None])
    assert "took longer than 0.5 s at a window of endless" in caplog.text


def test_failing_work_is_logged_without_a_row(
    watch: Callable[..., Monitoring], caplog: pytest.LogCaptureFixture
) -> None:
    """Work that raises loses its window alone; the process lives on."""
    failing, other = Slow("failing", "refuse"), Slow("other")
    monitoring = watch(failing, other)
    observe(monitoring)
    until(lambda: failing.results == [None] and other.doubled == [2])
    assert "monitor failing: a window was lost: ValueError" in caplog.text
    assert "PAYLOAD" not in caplog.text


def test_a_slow_window_holds_up_nothing(watch: Callable[..., Monitoring], tmp_path: Path) -> None:
    """During a slow window batches are observed, the waiting work stays bounded, and later the work goes on."""
    gate = tmp_path / "gate"
    slow, other = Slow("stuck", "wait", until=str(gate)), Slow("other")
    monitoring = watch(slow, other)
    observe(monitoring)
    until(lambda: not slow.left)
    observe(monitoring, 50)
    assert slow.seen == other.seen == 51
    assert slow.waiting <= MOST
    assert slow.dropped >= 50 - MOST
    assert not slow.results
    gate.touch()
    until(lambda: not slow.left and not other.left)
    until(lambda: len(slow.results) + slow.dropped == 51)


def test_a_crashing_settlement_is_logged(
    watch: Callable[..., Monitoring], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A monitor that cannot take its result does not end the work of the others."""
    broken, other = Slow("broken"), Slow("other")

    def refuse(result: Arrays | None) -> None:
        raise ValueError(f"PAYLOAD {result}")

    monkeypatch.setattr(broken, "settle", refuse)
    observe(watch(broken, other), 2)
    with caplog.at_level(logging.ERROR, "guardhouse"):
        until(lambda: other.doubled == [2, 4])
    assert "monitor broken crashed: ValueError" in caplog.text
    assert "PAYLOAD" not in caplog.text


def test_closing_ends_a_process_at_work(watch: Callable[..., Monitoring], tmp_path: Path) -> None:
    """A server that leaves does not wait for a window, and takes the process along; it logs no failure."""
    monitor = Slow("stuck", "wait", until=str(tmp_path / "never"))
    monitoring = watch(monitor)
    observe(monitoring)
    until(lambda: monitoring.worker.process is not None and not monitor.left)
    process = monitoring.worker.process
    assert isinstance(process, subprocess.Popen)
    monitoring.close()
    assert process.returncode == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)
    until(lambda: monitor.results == [None])
    assert monitoring.worker.delay.failures == 0


def test_the_process_leaves_with_its_server(tmp_path: Path) -> None:
    """A server that is killed outright leaves no process behind, even one in the middle of a window."""
    code = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parents[2] / "support"), str(Path(__file__).parent)]!r}
from test_monitoring_worker import Monitoring, Slow, observe
from waiting import until
monitor = Slow("stuck", "wait", until={str(tmp_path / "never")!r})
monitoring = Monitoring([monitor])
observe(monitoring)
until(lambda: monitoring.worker.process is not None)
print(monitoring.worker.process.pid, flush=True)
time.sleep(600)
"""
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server.stdout:
        process = psutil.Process(int(server.stdout.readline()))
        server.kill()
        server.wait()
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
