"""A server or its engine is killed during an explanation: the next one makes the explanation."""

import signal
from typing import TYPE_CHECKING

import psutil
import pytest
from example_folders import NAP
from fresh_client import FRESH
from gateways import gone
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Bundles
    from gateways import Gateway

EXPLAIN = "/v1/models/value:explain"


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def explaining(pid: int) -> list[psutil.Process]:
    alive = (child for child in children(pid) if not gone(child))
    return [child for child in alive if "service.explain.worker_main" in " ".join(child.cmdline())]


def test_killed_server_makes_its_jobs_after_a_restart(bundles: "Bundles", tmp_path: "Path") -> None:
    """If all processes are killed in the middle of a job, the job's address has the answer after a restart."""
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
    gateway.process.wait()
    gateway.client.close()
    after = bundles.serve("values", GUARDHOUSE_STATE=state).wait_ready()
    try:
        for location, name, value in zip(locations, ("slow", "quick"), (3 * NAP - 2 + 0.5, 2.0), strict=True):
            until(lambda location=location: FRESH.get(after.url + location).status_code != 202, 120)
            answer = after.client.get(location)
            assert answer.status_code == 200, answer.text
            (found,) = answer.json()["explanations"]
            assert found["id"] == name
            assert found["output_value"] == pytest.approx(value, abs=1e-4)
    finally:
        after.stop()


@pytest.fixture(scope="module")
def gateway(bundles: "Bundles") -> "Iterator[Gateway]":
    """Serve the values; each test kills the engine and leaves a server that explains."""
    gateway = bundles.serve("values", PYTHONPATH="").wait_ready()  # so that the process steps back
    gateway.expected.append("WARNING|circus|restart")
    yield gateway
    gateway.stop()


def test_process_goes_with_the_engine(gateway: "Gateway") -> None:
    """The explaining process starts at the first question, has the lowest priority, and ends with its engine."""
    assert not explaining(gateway.process.pid)
    gateway.wait_explaining([1, 1, 1])
    (child,) = explaining(gateway.process.pid)
    assert child.nice() == 19
    engine = gateway.engine
    assert child.parent() == engine
    engine.send_signal(signal.SIGKILL)
    until(lambda: gone(child))
    gateway.wait_restarted(engine)


def test_jobs_go_on_after_the_engine_was_killed(gateway: "Gateway") -> None:
    """If the engine alone is killed in the middle of a job, the same front gives the answer once there is an engine."""
    slow = {"instances": [[NAP, 1, 0.5]], "parameters": {"method": "shapley"}, "ids": ["slow"]}
    location = gateway.post(slow, EXPLAIN, Prefer="respond-async").headers["location"]
    (child,) = until(lambda: explaining(gateway.process.pid))
    until(lambda: child.cpu_times().user > 0.5)
    gateway.engine.send_signal(signal.SIGKILL)
    until(lambda: gone(child))
    until(lambda: gateway.client.get(location).status_code not in (202, 503), 120)
    (found,) = gateway.client.get(location).json()["explanations"]
    assert found["id"] == "slow"
    assert found["output_value"] == pytest.approx(3 * NAP - 2 + 0.5, abs=1e-4)
    (child,) = explaining(gateway.process.pid)
    gateway.stop()
    until(lambda: gone(child))
