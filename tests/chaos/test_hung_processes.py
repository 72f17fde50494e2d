"""Processes that hang: clients get their answers in time, and what hangs for long is killed and started again."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from fresh_client import FRESH
from gateways import STALL_SECONDS, gone
from waiting import until

from service.lifecycle.heartbeat import BEAT_SECONDS, SILENT_BEATS
from service.lifecycle.process_names import SERVING

if TYPE_CHECKING:
    from gateways import Gateway

ROW = {"instances": [[1, 1, 1]]}
SERVER = {"timeout_seconds": 3}
HEARD_SECONDS = 10
"""The age at which the supervisor has surely heard of a process: who was never heard may take all time to start."""
EXPECTED = [
    "is killed, and started again", "gone: the supervisor restarts it", "connection for rows", "does not answer",
    "has ended and is started again", "the store's process", "the store is down", "the store is back",
    "its process is killed", "could not be stored", "504",
]  # fmt: skip
WATCHED: dict[str, Callable[["Gateway"], list[psutil.Process]]] = {
    "engine": lambda gateway: gateway._engines(SERVING),
    "front": lambda gateway: gateway._listening_fronts(),
    "store": lambda gateway: gateway.store_processes,
}


def ask(gateway: "Gateway") -> int:
    """Send one row over a connection of its own, and give the answer's status; 0 if there was none."""
    try:
        return FRESH.post(f"{gateway.url}/predict", json=ROW, timeout=STALL_SECONDS).status_code
    except httpx.TransportError:
        return 0


def test_requests_of_a_hung_engine_end_by_their_deadline(gateway: "Gateway") -> None:
    """Requests that a stopped engine holds are 504 at their deadline; soon readiness is withdrawn, and all is 503."""
    engine = gateway.engine
    engine.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(4) as pool:
            codes = [waiting.result() for waiting in [pool.submit(ask, gateway) for _ in range(4)]]
        assert set(codes) <= {503, 504}
        assert 504 in codes
        until(lambda: all(FRESH.get(f"{gateway.url}/readyz").status_code == 503 for _ in range(20)))
        assert ask(gateway) == 503
        assert FRESH.get(f"{gateway.url}/livez").status_code == 200
    finally:
        engine.send_signal(signal.SIGCONT)
    gateway.wait_ready()
    until(lambda: ask(gateway) == 200)
    assert gateway.engine.pid == engine.pid


@pytest.mark.slow
@pytest.mark.parametrize("name", WATCHED)
def test_a_process_that_hangs_for_long_is_replaced(gateway: "Gateway", name: str) -> None:
    """Half a minute after its last heartbeat the process is killed; another one serves, and nobody had to help."""
    find = WATCHED[name]
    process, *others = until(lambda: find(gateway))
    until(lambda: time.time() - process.create_time() > HEARD_SECONDS)
    started = time.monotonic()
    process.send_signal(signal.SIGSTOP)
    until(lambda: gone(process))
    assert time.monotonic() - started > (SILENT_BEATS - 2) * BEAT_SECONDS
    until(lambda: len(now := find(gateway)) == len(others) + 1 and process not in now and ask(gateway) == 200)
    assert set(others) < set(find(gateway))
    gateway.wait_for(lambda metrics: metrics["guardhouse_store_down"] == 0)


def test_a_hung_supervisor_stops_nobody(gateway: "Gateway") -> None:
    """While the supervisor is stopped everybody is answered; what died meanwhile is started again afterwards."""
    supervisor, (killed, _) = psutil.Process(gateway.process.pid), gateway.wait_fronts(2)
    supervisor.suspend()
    try:
        killed.kill()
        until(lambda: all(ask(gateway) == 200 for _ in range(5)))  # the kernel takes a moment to close its socket
        assert {ask(gateway) for _ in range(20)} == {200}
        assert FRESH.get(f"{gateway.url}/readyz").status_code == 200
    finally:
        supervisor.resume()
    assert killed not in gateway.wait_fronts(2)


def test_a_hung_explanation_worker_is_replaced(gateway: "Gateway") -> None:
    """A question that the stopped process holds is 504 at its deadline; the process is killed, and another answers."""
    gateway.wait_explaining([1, 1, 1])
    (worker,) = (
        child for child in gateway.engine.children() if "service.explain.worker_main" in " ".join(child.cmdline())
    )
    worker.suspend()
    explain = f"/v1/models/{gateway.name}:explain"
    answer = FRESH.post(f"{gateway.url}{explain}", json={"instances": [[1, 2, 1]]}, timeout=STALL_SECONDS)
    assert answer.status_code == 504
    assert ask(gateway) == 200
    until(lambda: gone(worker))
    gateway.wait_explaining([1, 1, 2])


def test_the_spare_takes_the_place_of_a_killed_engine(gateway: "Gateway") -> None:
    """The process that had imported everything before is the engine afterwards, and it gets a spare of its own."""
    engine, spare = gateway.engine, gateway.wait_spare()
    engine.kill()
    gateway.wait_restarted(engine)
    assert gateway.engine.pid == spare.pid
    assert ask(gateway) == 200
    assert gateway.wait_spare().pid != engine.pid
