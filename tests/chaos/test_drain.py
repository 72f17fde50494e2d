"""`guardhouse drain`: the server becomes unready first, and is stopped later."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from example_folders import NAP
from fresh_client import FRESH
from gateways import STALL_SECONDS, cli, gone, read_answer

from service.lifecycle.pidfile import present

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

ROW = {"instances": [[1, 1, 1]]}


@pytest.fixture
def gateway(bundles: "Bundles", request: pytest.FixtureRequest) -> Iterator["Gateway"]:
    """Serve a regression model that sleeps on command."""
    from gateways import Gateway

    folder = bundles.folder / "drain" / request.node.name
    gateway = Gateway(bundles.bundle("values"), bundles.config("values"), folder, PYTHONPATH=bundles.python_path)
    yield gateway.wait_ready()
    gateway.stop()


@pytest.fixture
def drain(gateway: "Gateway") -> Callable[..., str]:
    """Run the command on the server; what it says."""

    def run(*arguments: str) -> str:
        done = cli("drain", gateway.bundle, *arguments, GUARDHOUSE_STATE=str(gateway.state))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_a_draining_server_goes_on_answering(gateway: "Gateway", drain: Callable[..., str]) -> None:
    """Readiness is withdrawn, answers end connections, idle connections end now and not before, nothing is refused."""
    with gateway.connect() as idle, httpx.Client(base_url=gateway.url, timeout=STALL_SECONDS) as kept:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(idle).status == 200
        idle.settimeout(6)  # uvicorn alone closes an idle connection after five seconds
        with pytest.raises(TimeoutError):
            idle.recv(1)
        idle.settimeout(STALL_SECONDS)
        before = kept.post("/predict", json=ROW)
        assert "connection" not in before.headers
        said = drain("--seconds", "0").splitlines()
        assert len(said) == 2
        assert f"port {gateway.port}" in said[0]
        assert [server.draining for server in present(gateway.state)] == [True]
        for path in ("/readyz", "/v2/health/ready"):
            refused = gateway.client.get(path)
            assert refused.status_code == 503
            assert refused.headers["connection"] == "close"
        for client in (kept, gateway.client, gateway.client):
            answer = client.post("/predict", json=ROW)
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
            assert answer.json()["predictions"][0]["value"] == before.json()["predictions"][0]["value"]
        assert idle.recv(1) == b""
    assert gateway.client.get("/livez").status_code == 200
    drain("--seconds", "0")  # again, which changes nothing
    assert gateway.client.get("/livez").status_code == 200
    gateway.terminate()
    assert gateway.wait() == 0
    assert not list(gateway.state.glob("server-*"))


def test_stop_waits_for_what_is_in_flight(gateway: "Gateway", drain: Callable[..., str]) -> None:
    """With --stop the command returns when the last request has its answer and the server is gone."""
    nap = {"instances": [{"a": NAP, "b": 1, "c": 3}]}
    with ThreadPoolExecutor(1) as pool:
        asleep = pool.submit(FRESH.post, f"{gateway.url}/predict", json=nap, timeout=STALL_SECONDS)
        gateway.wait_in_flight(asleep)
        gateway.leaving, processes = True, [psutil.Process(gateway.process.pid), *gateway.fronts]
        said = drain("--seconds", "0.1", "--stop")
        assert asleep.done()
        assert asleep.result().status_code == 200
    assert said.splitlines()[-1].startswith("it left after ")
    assert all(map(gone, processes))
    assert gateway.wait() == 0
    done = cli("drain", gateway.bundle, GUARDHOUSE_STATE=str(gateway.state))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"no server is running with its state in {gateway.state}\n"


def test_a_server_that_leaves_by_itself_is_no_failure(gateway: "Gateway", drain: Callable[..., str]) -> None:
    """A server that somebody else stops during the notice has gone, which is what was wanted."""
    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(drain, "--seconds", "60", "--stop")
        gateway.wait_for(lambda _: any(server.draining for server in present(gateway.state)))
        gateway.leaving = True
        gateway.process.send_signal(signal.SIGTERM)
        assert draining.result().endswith("it has left already\n")
    assert gateway.wait() == 0


def test_a_front_that_dies_is_no_server_that_left(gateway: "Gateway", drain: Callable[..., str]) -> None:
    """With --stop a server is stopped, too, whose only front was killed meanwhile: another one is being started."""
    (front,) = gateway.fronts
    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(drain, "--seconds", "60", "--stop")
        gateway.wait_for(lambda _: any(server.draining for server in present(gateway.state)))
        gateway.leaving = True
        gateway.expected.append("WARNING|circus|restart")
        front.kill()
        assert draining.result().splitlines()[-1].startswith("it left after ")
    assert gateway.wait() == 0
    assert not front.is_running()
