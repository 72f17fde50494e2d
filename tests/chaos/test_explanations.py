"""A server killed half-way through an explanation: the next one makes it."""

import signal
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from made_up import NAP

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bundles

EXPLAIN = "/v1/models/value:explain"


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def until(true: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended; whoever is to collect what is left of it may take a while."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def explaining(pid: int) -> list[psutil.Process]:
    alive = (child for child in children(pid) if not gone(child))
    return [child for child in alive if "service.explain_process" in " ".join(child.cmdline())]


def test_killed_server_makes_its_jobs_after_a_restart(bundles: "Bundles", tmp_path: "Path") -> None:
    """Server and explaining process are killed in the middle of a job: after a restart its address has the answer."""
    state = str(tmp_path / "state")
    gateway = bundles.serve("values", GUARDHOUSE_STATE=state).wait_ready()
    slow = {"instances": [[NAP, 1, 0.5]], "parameters": {"method": "shapley"}, "ids": ["slow"]}
    quick = {"instances": [[1, 1, 1]], "parameters": {"method": "shapley"}, "ids": ["quick"]}
    locations = [gateway.post(body, EXPLAIN, Prefer="respond-async").headers["location"] for body in (slow, quick)]
    (child,) = until(lambda: explaining(gateway.process.pid))
    until(lambda: child.cpu_times().user > 0.5)
    everything = [gateway.process.pid, *(process.pid for process in children(gateway.process.pid))]
    for pid in everything:
        psutil.Process(pid).send_signal(signal.SIGSTOP)  # so that the supervisor restarts nothing
    for pid in everything:
        psutil.Process(pid).send_signal(signal.SIGKILL)
    gateway.process.wait(10)
    gateway.client.close()
    after = bundles.serve("values", GUARDHOUSE_STATE=state).wait_ready()
    try:
        for location, name, value in zip(locations, ("slow", "quick"), (3 * NAP - 2 + 0.5, 2.0), strict=True):
            until(lambda location=location: httpx.get(after.url + location).status_code != 202, 120)
            answer = after.client.get(location)
            assert answer.status_code == 200, answer.text
            (found,) = answer.json()["explanations"]
            assert found["id"] == name
            assert found["output_value"] == pytest.approx(value, abs=1e-4)
    finally:
        after.stop()


def test_process_goes_with_its_server(bundles: "Bundles") -> None:
    """The explaining process is there only once it was asked, is last in line, and leaves nothing behind."""
    gateway = bundles.serve("values").wait_ready()
    assert not explaining(gateway.process.pid)
    gateway.wait_explaining([1, 1, 1])
    (child,) = explaining(gateway.process.pid)
    assert child.nice() == 19
    (worker,) = psutil.Process(gateway.process.pid).children()
    worker.send_signal(signal.SIGKILL)
    gateway.expected.append("WARNING|circus|restart")
    until(lambda: gone(child))
    gateway.wait_ready().wait_explaining([1, 1, 1])
    (child,) = explaining(gateway.process.pid)
    gateway.stop()
    until(lambda: gone(child))
