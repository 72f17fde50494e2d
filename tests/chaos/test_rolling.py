"""A rolling restart behind a real load balancer: every request is answered."""

import http.client
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from container_users import as_user
from example_folders import ALLOWED
from gateways import STALL_SECONDS, Gateway, cli
from haproxy import HAProxy, haproxy_program
from waiting import until

from service.front.control_channel import SILENT

if TYPE_CHECKING:
    from conftest import Bundles

LOG = logging.getLogger(__name__)
BODY = json.dumps({"instances": [ALLOWED]})
STALLED = f"503 {SILENT}"
"""What a front answers that has heard nothing of its engine for seconds, because the machine stalls."""
ANSWERED = 'guardhouse_requests_total{code="200",route="/predict"}'


class Fleet:
    """Two servers of one model behind HAProxy, each replaced by a new one; like pods, they have no capabilities."""

    def __init__(self, bundles: "Bundles", folder: Path) -> None:
        """Start them."""
        self.bundles, self.folder = bundles, folder
        self.gateways = [self._start(f"{place}", None) for place in range(2)]
        for gateway in self.gateways:
            gateway.wait_ready()
        self.balancer = HAProxy([gateway.port for gateway in self.gateways], folder)

    def _start(self, name: str, port: int | None) -> Gateway:
        bundles = self.bundles
        environment = {"PYTHONPATH": bundles.python_path, "OMP_NUM_THREADS": "1"}
        return Gateway(
            bundles.bundle("table"), bundles.config("table"), self.folder / name, port=port,
            prefix=as_user("without capabilities"), **environment,
        )  # fmt: skip

    def replace(self, place: int, seconds: str) -> None:
        """Drain, stop and replace one server, and wait for the load balancer to use the new one."""
        old = self.gateways[place]
        done = cli("drain", old.bundle, "--seconds", seconds, "--stop", GUARDHOUSE_STATE=str(old.state))
        assert done.returncode == 0, done.stdout + done.stderr
        old.leaving = True
        old.stop()
        self.gateways[place] = new = self._start(f"{place}.{old.port}.new", old.port).wait_ready()
        new.wait_for(lambda metrics: metrics[ANSWERED] > 0)

    def stop(self) -> None:
        """Stop everything."""
        self.balancer.stop()
        for gateway in self.gateways:
            gateway.stop()


@pytest.fixture
def fleet(bundles: "Bundles", tmp_path: Path) -> Iterator[Fleet]:
    """Two servers behind HAProxy."""
    haproxy_program()
    fleet = Fleet(bundles, tmp_path)
    yield fleet
    fleet.stop()


class Crowd:
    """Clients that keep their connections to the load balancer and ask without end, one request after the other."""

    def __init__(self, port: int, clients: int, pause: float) -> None:
        self.port, self.pause = port, pause
        self.results: Counter[str] = Counter()
        self.leaving = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._running = [self._pool.submit(self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=STALL_SECONDS)
        while not self.leaving.is_set():
            try:
                connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
                response = connection.getresponse()
                told = json.loads(response.read())
                good = response.status == 200 and told["predictions"][0]["label"] == "yes"
                self.results["answered" if good else f"{response.status} {told.get('detail')}"] += 1
            except (OSError, ValueError, http.client.HTTPException) as failure:
                self.results[repr(failure)] += 1
                connection.close()
            time.sleep(self.pause)
        connection.close()

    def answered(self, count: int) -> None:
        """Wait for so many more answers."""
        wanted = self.results["answered"] + count
        until(lambda: self.results["answered"] >= wanted, pause=0.05)

    def leave(self) -> Counter[str]:
        """Stop asking, and give what came of it."""
        self.leaving.set()
        for one in self._running:
            one.result()
        self._pool.shutdown()
        return self.results


@pytest.mark.parametrize(
    ("clients", "pause", "seconds", "least"),
    [(4, 0.05, "1", 400), pytest.param(16, 0.0, "5", 5000, marks=pytest.mark.slow)],
)
def test_a_rolling_restart_fails_no_request(fleet: Fleet, clients: int, pause: float, seconds: str, least: int) -> None:
    """Both servers are replaced, one after the other, under clients that never pause: all of them get their answers."""
    crowd = Crowd(fleet.balancer.port, clients, pause)
    try:
        crowd.answered(50)
        for place in range(2):
            fleet.replace(place, seconds)
        crowd.answered(max(50, least - sum(crowd.results.values())))
    finally:
        results = crowd.leave()
    LOG.info("%s", dict(results))
    assert results.keys() - {STALLED} == {"answered"}, f"{results}\n{fleet.balancer.failures()[-3000:]}"
    assert results["answered"] >= least
