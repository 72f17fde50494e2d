"""Every way to stop a server, as any user: requests in flight are answered, and no process is left."""

import contextlib
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
import yaml
from container_users import USERS, as_user
from example_folders import NAP, VALUE_CONFIG
from fresh_client import FRESH
from gateways import GUARDHOUSE_SERVE, ROOT, STALL_SECONDS, Gateway, cli, free_port

from service.messages.paths import RUN_FOLDER

if TYPE_CHECKING:
    from conftest import Bundles

    Start = Callable[..., Gateway]

ROW = {"instances": [[1, 1, 1]]}
NAP_SECONDS = 2.5
GONE_SECONDS = NAP_SECONDS + STALL_SECONDS
"""Far more than an end takes: a front that has to give up waiting says so in the log, which is a surprise."""
STOPPED, KILLED = 0, -signal.SIGKILL


@pytest.fixture
def start(bundles: "Bundles", request: pytest.FixtureRequest) -> Iterator["Start"]:
    """Start servers of a model that sleeps on command, each with a home of its own; none outlives the test."""
    started: list[Gateway] = []

    def begin(
        user: str = "this user",
        more: Sequence[str] = (),
        config: Path | None = None,
        *,
        wait: bool = True,
        **options: object,
    ) -> Gateway:
        name = "".join(filter(str.isalnum, request.node.name))
        folder = bundles.folder / "stop" / f"{name}{len(started)}"
        gateway = Gateway(
            bundles.bundle("values"), config or bundles.config("values"), folder, prefix=[*as_user(user), *more],
            **{"PYTHONPATH": bundles.python_path, "program": GUARDHOUSE_SERVE} | options,
        )  # fmt: skip
        started.append(gateway)
        return gateway.wait_ready() if wait else gateway

    yield begin
    for gateway in started:
        gateway.client.close()
        if gateway.process.poll() is None:  # the test has failed
            for process in gateway._processes():
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait()


def stop_supervisor(gateway: Gateway) -> None:
    gateway.process.send_signal(signal.SIGTERM)


def stop_front(gateway: Gateway) -> None:
    gateway.fronts[0].send_signal(signal.SIGTERM)


def stop_engine(gateway: Gateway) -> None:
    gateway.engine.send_signal(signal.SIGTERM)


def press_ctrl_c(gateway: Gateway) -> None:
    os.killpg(gateway.process.pid, signal.SIGINT)


def close_the_terminal(gateway: Gateway) -> None:
    os.killpg(gateway.process.pid, signal.SIGHUP)


def ask_twice(gateway: Gateway) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        os.killpg(gateway.process.pid, number)
        time.sleep(0.3)


def drain_and_stop(gateway: Gateway) -> None:
    done = cli("drain", gateway.bundle, "--seconds", "0", "--stop", GUARDHOUSE_STATE=str(gateway.state))
    assert (done.returncode, done.stderr) == (0, "")


def kill_the_supervisor(gateway: Gateway) -> None:
    gateway.process.kill()


WAYS = {
    stop_supervisor: STOPPED,
    stop_front: STOPPED,
    stop_engine: STOPPED,
    press_ctrl_c: STOPPED,
    close_the_terminal: STOPPED,
    ask_twice: STOPPED,
    drain_and_stop: STOPPED,
    kill_the_supervisor: KILLED,
}


QUICK = {
    (press_ctrl_c, "without capabilities"),
    (kill_the_supervisor, "without capabilities"),
    (stop_supervisor, "without a passwd entry"),
}
"""The other tests of this folder stop servers by SIGTERM and by `guardhouse drain`, too."""
PAIRS = [
    pytest.param(way, user, marks=[] if (way, user) in QUICK else [pytest.mark.slow], id=f"{way.__name__} {user}")
    for way in WAYS
    for user in USERS
]


@pytest.mark.parametrize(("way", "user"), PAIRS)
def test_every_stop_ends(start: "Start", way: "Callable[[Gateway], None]", user: str) -> None:
    """A request in flight is answered, no process is left, the port is free, and the log has no surprise."""
    gateway = start(user)
    processes = gateway._processes()
    nap = {"instances": [{"a": NAP, "b": 1, "c": NAP_SECONDS}]}
    with ThreadPoolExecutor(1) as pool:
        asleep = pool.submit(FRESH.post, f"{gateway.url}/predict", json=nap, timeout=STALL_SECONDS)
        gateway.wait_in_flight(asleep)
        asked = time.monotonic()
        way(gateway)
        answer = asleep.result()
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["value"] == pytest.approx(3 * NAP - 2 + NAP_SECONDS, abs=1e-4)
    assert gateway.wait(GONE_SECONDS) == WAYS[way]
    _, left = psutil.wait_procs(processes, GONE_SECONDS - (time.monotonic() - asked))
    assert not left, f"{left}\n{gateway.log()}"
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(("127.0.0.1", gateway.port))
        port.listen()
    assert not list(gateway.state.glob("server-*"))
    if way is kill_the_supervisor:
        gateway.expected.append('"level": "error".*supervisor .* is gone')
    assert not gateway.surprises(), gateway.log()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_start_ends(start: "Start", number: signal.Signals, seconds: float) -> None:
    """Whatever the processes do when the signal comes, none of them is left a few seconds later."""
    gateway = start(wait=False)
    time.sleep(seconds)
    processes = gateway._processes()
    os.killpg(gateway.process.pid, number)
    gateway.wait()
    assert not psutil.wait_procs(processes, STALL_SECONDS)[1], gateway.log()
    with pytest.raises(httpx.ConnectError):
        FRESH.get(f"{gateway.url}/livez")


def terminate_all(gateway: Gateway) -> None:
    """Tell every process by itself, as systemd does."""
    for process in gateway._processes():
        process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    "way", [terminate_all, pytest.param(press_ctrl_c, marks=pytest.mark.slow)], ids=lambda way: way.__name__
)
def test_an_explanation_in_flight_is_answered(start: "Start", way: "Callable[[Gateway], None]") -> None:
    """The process that explains is not ended before the answer that it is at."""
    gateway = start().wait_explaining([1, 1, 1])
    processes = gateway._processes()
    body = {"instances": [[NAP, 1, 0.7]], "parameters": {"method": "shapley"}}
    path = "/v1/models/value:explain"
    with ThreadPoolExecutor(1) as pool:
        explaining = pool.submit(FRESH.post, f"{gateway.url}{path}", json=body, timeout=STALL_SECONDS)
        gateway.wait_in_flight(explaining)
        way(gateway)
        answer = explaining.result()
    assert answer.status_code == 200, answer.text
    assert answer.json()["explanations"][0]["attributions"]
    assert gateway.wait() == STOPPED
    assert not psutil.wait_procs(processes, STALL_SECONDS)[1]
    assert not gateway.surprises(), gateway.log()


def listening_ports(processes: Iterable[psutil.Process]) -> set[int]:
    connections = (process.net_connections("tcp") for process in processes)
    return {one.laddr.port for several in connections for one in several if one.status == psutil.CONN_LISTEN}


SOCKETS = {"control", "rows", "store", "circus-control", "circus-events"}
CHECKOUT = ["-m", "bentoml", "serve", "service.app:Gateway", "--working-dir", str(ROOT)]


@pytest.mark.parametrize(
    "program",
    [CHECKOUT, pytest.param(GUARDHOUSE_SERVE, marks=pytest.mark.slow), pytest.param("bento", marks=pytest.mark.slow)],
    ids=["bentoml", "guardhouse", "bento"],
)
def test_only_what_is_served_is_listened_on(
    start: "Start", program: list[str] | str, request: pytest.FixtureRequest
) -> None:
    """Every process of a server, however it is started, listens on its HTTP port and nowhere else."""
    if program == "bento":
        program = ["-m", "bentoml", "serve", str(request.getfixturevalue("bento"))]
    gateway = start(program=program if program is GUARDHOUSE_SERVE else [sys.executable, *program])
    assert listening_ports(gateway._processes()) == {gateway.port}
    stop_supervisor(gateway)
    assert gateway.wait() == STOPPED


def test_with_grpc_one_port_more_is_listened_on(start: "Start", bundles: "Bundles") -> None:
    """The port of the config is the only other one."""
    config = bundles.config("values").with_name("ports.yaml")
    config.write_text(yaml.safe_dump(VALUE_CONFIG | {"server": {"grpc_port": (port := free_port())}}))
    gateway = start(config=config)
    assert listening_ports(gateway._processes()) == {gateway.port, port}
    press_ctrl_c(gateway)
    assert gateway.wait() == STOPPED
    assert not gateway.surprises(), gateway.log()


@pytest.mark.slow
def test_reloading_keeps_its_sockets_to_the_owner(start: "Start") -> None:
    """With --reload a second process commands the supervisor, by sockets in a folder that only their user can enter."""
    gateway = start(program=[sys.executable, *CHECKOUT, "--reload"])
    processes = gateway._processes()
    assert any("ReloaderPlugin" in " ".join(process.cmdline()) for process in processes)
    assert listening_ports(processes) == {gateway.port}
    folder = Path(gateway.engine.environ()[RUN_FOLDER])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir() if path.is_socket()} == SOCKETS
    stop_supervisor(gateway)
    assert gateway.wait() == STOPPED
    assert not psutil.wait_procs(processes, STALL_SECONDS)[1]
    assert not folder.exists()


@pytest.mark.parametrize(
    "home",
    [pytest.param(["-u", "HOME"], marks=pytest.mark.slow), ["HOME=/proc/none"]],
    ids=["no home", "a home that is not there"],
)
def test_a_user_without_a_home_serves(start: "Start", home: list[str]) -> None:
    """A number that no passwd file knows, as some clusters give one, serves from the folder of the server's state."""
    gateway = start("without a passwd entry", ["env", "-u", "BENTOML_HOME", *home])
    assert (gateway.state / "bentoml").is_dir()
    assert not (ROOT / "~").exists()
    stop_supervisor(gateway)
    assert gateway.wait() == STOPPED
    assert not gateway.surprises(), gateway.log()
