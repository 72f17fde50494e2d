"""Too many connections, and clients that do not read: others are served, probes first, and the server ends in time."""

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from example_folders import ALLOWED
from fresh_client import FRESH
from gateways import read_answer
from waiting import until

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

FILES = 160
"""How many files a front may open, as if an operator had set the limit low."""
FULL = r"of 160 files that this process may open, nearly all are open"
PREDICT = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
ONE = json.dumps({"instances": [ALLOWED]}).encode()


@pytest.fixture
def narrow(table: "Gateway") -> "Iterator[Gateway]":
    """Let the front of a server open few files for a while."""
    table.expected.append(FULL)
    (front,) = table.fronts
    before = front.rlimit(resource.RLIMIT_NOFILE)
    front.rlimit(resource.RLIMIT_NOFILE, (FILES, before[1]))
    yield table
    front.rlimit(resource.RLIMIT_NOFILE, before)


def _open_connections(gateway: "Gateway") -> float:
    return gateway.metrics()["guardhouse_connections"]


def test_idle_connections_lock_nobody_out(narrow: "Gateway") -> None:
    """Beyond the bound, idle connections make room: everybody is answered, and the log and the metrics show why."""
    lines = narrow.log().count("nearly all are open")
    with ExitStack() as stack:
        idle = [stack.enter_context(narrow.connect()) for _ in range(400)]
        assert FRESH.get(f"{narrow.url}/readyz").status_code == 200
        until(lambda: narrow.post(ONE).status_code == 200, 60)  # connections that are new may be about to ask
        for _ in range(20):
            assert narrow.predict([ALLOWED])[0]["action"] == "allow"
            assert FRESH.get(f"{narrow.url}/livez").status_code == 200
        assert 20 < _open_connections(narrow) < FILES
        ended = 0
        for connection in idle[:200]:
            connection.settimeout(15)
            ended += connection.recv(100)[:12] in (b"", b"HTTP/1.1 503", b"HTTP/1.1 408")
        assert ended == 200
    assert narrow.log().count("nearly all are open") <= lines + 1
    assert "nearly all are open" in narrow.log()
    until(lambda: _open_connections(narrow) < 20, 60)


def _holding(gateway: "Gateway", stack: ExitStack) -> socket.socket:
    """Connect, and begin a request that does not end."""
    connection = stack.enter_context(gateway.connect())
    connection.send(PREDICT % 1000 + b"{")
    return connection


def test_probes_are_answered_while_every_connection_works(narrow: "Gateway") -> None:
    """If every connection has a request under way, other requests are refused at once, and probes are answered."""
    before = narrow.metrics()
    with ExitStack() as stack:
        first, *_ = [_holding(narrow, stack) for _ in range(40)]
        narrow.wait_for(lambda series: series["guardhouse_inflight_requests"] == 40)
        held = [_holding(narrow, stack) for _ in range(FILES - 40)]
        assert read_answer(held[-1]).status == 503
        for path in ("/livez", "/readyz", "/metrics"):
            answer = FRESH.get(f"{narrow.url}{path}")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        started = time.monotonic()
        refused = FRESH.post(f"{narrow.url}/predict", content=ONE, headers={"Content-Type": "application/json"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert time.monotonic() - started < 5
        narrow.check(refused)
        first.send(ONE[1:] + b" " * (1000 - len(ONE)))
        assert read_answer(first).status == 200
    until(lambda: _open_connections(narrow) < 20, 60)
    assert narrow.predict([ALLOWED])[0]["action"] == "allow"
    moved = narrow.metrics()
    shed = 'guardhouse_shed_requests_total{reason="connections"}'
    assert moved[shed] - before[shed] >= 2


def test_a_client_that_still_sends_gets_its_413(table: "Gateway") -> None:
    """A client that only reads after it has sent everything gets the answer to a body that is too large."""
    size = 40 << 20
    with table.connect(30) as connection:
        connection.sendall(PREDICT % size)
        for _ in range(size >> 20):
            connection.sendall(bytes(1 << 20))
        answer = read_answer(connection)
        assert answer.status == 413
        assert connection.recv(100) == b""


def test_what_is_kept_is_for_the_servers_own_user(table: "Gateway") -> None:
    """No other user of the machine can read the folder of answered rows, snapshots and process files."""
    table.predict([ALLOWED])
    (front,) = table.fronts
    state = Path(front.environ()["GUARDHOUSE_STATE"])
    until(lambda: list(state.glob("server-*")) and list(state.glob("*.db")), 60)
    for path in (state, *state.rglob("*")):
        assert not path.stat().st_mode & 0o077, path


def test_refused_heads_are_counted(table: "Gateway") -> None:
    """Answers to requests that have no whole head are counted, under the route `unmatched`."""
    before = table.metrics()
    assert table.raw(b"nonsense\r\n\r\n").status == 400
    assert table.raw(b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000).status == 431
    assert table.raw(b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n").status == 405
    after = table.metrics()
    for code in (400, 431, 405):
        series = f'guardhouse_requests_total{{code="{code}",route="unmatched"}}'
        assert after[series] == before[series] + 1


def test_a_server_ends_in_time_whoever_does_not_read(bundles: "Bundles") -> None:
    """Clients that send requests ahead and read nothing keep one answer each in memory, and no server from ending."""
    document = yaml.safe_load(bundles.config("table").read_text())
    document["server"] = {**document.get("server", {}), "timeout_seconds": 55}
    config = bundles.config("table").with_name("patient.yaml")
    config.write_text(yaml.safe_dump(document))
    gateway = bundles.serve("table", config=config).wait_ready()
    gateway.expected.append("clients do not read their answers")
    many = json.dumps({"instances": [ALLOWED] * 1024, "parameters": {"detail": True}}).encode()
    try:
        gateway.predict([ALLOWED])
        resident = gateway.resident_bytes()
        with ExitStack() as stack:
            clients = [stack.enter_context(gateway.connect()) for _ in range(20)]
            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else the kernel takes many answers
                client.sendall((PREDICT % len(many) + many) * 12)
            until(lambda: gateway.metrics()["guardhouse_inflight_requests"] == 0, 60)
            assert gateway.resident_bytes() - resident < 200 << 20
            started = time.monotonic()
            gateway.terminate()
            assert gateway.wait(60) == 0
            took = time.monotonic() - started
            assert took < 30  # 62 s when the server waited for them
        assert "clients do not read their answers" in gateway.log()
    finally:
        gateway.stop()
