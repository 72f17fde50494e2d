"""Servers are killed and databases stop: no accepted outcome is lost, and none is counted twice."""

import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from feedback_totals import FEEDBACK, MONITORS, NO, YES, confusion, feedback, outcomes, report
from fresh_client import FRESH
from gateways import STALL_SECONDS
from waiting import until

if TYPE_CHECKING:
    from conftest import Bundles
    from databases import Postgres
    from gateways import Gateway

PREDICT = "/v1/models/loans:predict"
LABELS = ("no", "yes")


def truth_of(name: str) -> str:
    """Make up what turns out to be true of a row."""
    return LABELS[len(name) % 2]


class Client:
    """Sends predictions and their outcomes until it is stopped, and remembers what was acknowledged."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name, self.stop = url, name, threading.Event()
        self.predicted: dict[str, str] = {}
        self.acknowledged: dict[str, str] = {}
        self.sent: dict[str, str] = {}
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        rng, number = random.Random(self.name), 0  # noqa: S311
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.stop.is_set():
                ids = [f"{self.name}-{number + i}" for i in range(8)]
                number += 8
                self.sent |= {name: truth_of(name) for name in ids}  # which may be stored though the answer is lost
                try:
                    if not self._predict(client, ids):
                        time.sleep(0.05)  # there is no engine: without a pause, millions of ids would be sent
                    known = [*self.predicted]
                    mixed = {*rng.sample(known, min(8, len(known))), *ids}  # some for the second or third time
                    self._tell(client, sorted(mixed))
                except httpx.TransportError:
                    time.sleep(0.05)

    def _predict(self, client: httpx.Client, ids: list[str]) -> bool:
        """Send rows, and say whether they were answered."""
        rows = [YES if int(name.rpartition("-")[2]) % 3 else NO for name in ids]
        response = client.post(PREDICT, json={"instances": rows, "ids": ids})
        if response.status_code == 200:
            self.predicted |= {one["id"]: one["label"] for one in response.json()["predictions"]}
        return response.status_code == 200

    def _tell(self, client: httpx.Client, ids: list[str]) -> bool:
        """Send outcomes, and say whether they were taken."""
        truth = {name: truth_of(name) for name in ids}
        body = {"outcomes": [{"id": name, "label": label} for name, label in truth.items()]}
        response = client.post(FEEDBACK, json=body)
        if response.status_code == 200:
            said = response.json()
            assert not said["conflicting"]
            unknown = set(said["unknown"])
            self.acknowledged |= {name: label for name, label in truth.items() if name not in unknown}
        return response.status_code == 200

    def finish(self) -> None:
        """Stop, and send everything again until it is there: predictions that a crash took with it, too."""
        self.stop.set()
        self.thread.join(180)
        with httpx.Client(base_url=self.url, timeout=180) as client:
            ids = [*self.sent]
            for start in range(0, len(ids), 500):
                until(lambda some=ids[start : start + 500]: self._predict(client, some))
                until(lambda some=ids[start : start + 500]: self._tell(client, some))
        assert self.acknowledged == self.sent


def expected(clients: list[Client]) -> list[list[int]]:
    """Count by hand what the totals must be, once everything that was sent is there."""
    counts = [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
    for client in clients:
        for name, label in client.predicted.items():
            row = counts[LABELS.index(label)]
            row[0] += 1
            if name in client.acknowledged:
                row[1 + LABELS.index(client.acknowledged[name])] += 1
    return counts


def in_the_store(gateway: "Gateway", client: Client) -> None:
    """Check that each acknowledged outcome is there, by sending it once more."""
    for label in LABELS:
        ids = [name for name, said in client.acknowledged.items() if said == label]
        for start in range(0, len(ids), 5000):
            said = feedback(gateway, ids[start : start + 5000], label)
            assert said["duplicate"] == ids[start : start + 5000]


def _kill(bundles: "Bundles", ledger: str, kills: int) -> None:
    gateway = bundles.serve(ledger).wait_ready()
    gateway.expected.append("WARNING|circus|restart|sentinel")
    clients = [Client(gateway.url, f"{number}-kill") for number in range(3)]
    rng = random.Random(7)  # noqa: S311
    for _ in range(kills):
        time.sleep(rng.uniform(0.3, 0.9))
        engine = gateway.engine
        engine.send_signal(signal.SIGKILL)
        engine.wait(STALL_SECONDS)
        before = [dict(client.acknowledged) for client in clients]
        gateway.wait_restarted(engine)
        for acknowledged in before:
            for label in LABELS:
                ids = [name for name, said in acknowledged.items() if said == label]
                assert not ids or not {*feedback(gateway, ids, label)["unknown"]}
    for client in clients:
        client.finish()
    for client in clients:
        in_the_store(gateway, client)
    assert sum(len(client.acknowledged) for client in clients) > 20 * kills
    assert confusion(report(gateway)) == expected(clients)
    gateway.stop()


def test_killed_under_load(bundles: "Bundles", ledger: str) -> None:
    """Whatever is acknowledged survives kill -9, and after sending everything again every count is exact."""
    _kill(bundles, ledger, 2)


@pytest.mark.slow
def test_killed_fifty_times_under_load(bundles: "Bundles", ledger: str) -> None:
    """The same, fifty times in a row."""
    _kill(bundles, ledger, 50)


@pytest.fixture
def replicas(bundles: "Bundles", ledger: str, postgres: "Postgres") -> Iterator[list["Gateway"]]:
    """Start two servers on one PostgreSQL, at once."""
    url = postgres.database()
    gateways = [bundles.serve(ledger, GUARDHOUSE_DATABASE_URL=url) for _ in range(2)]
    for gateway in gateways:
        gateway.wait_ready()
    yield gateways
    if not postgres.running:
        postgres.start()
    for gateway in gateways:
        gateway.stop()


def test_two_replicas_are_one(replicas: list["Gateway"]) -> None:
    """Outcomes go to any replica, at once to both too, and each reports what both have counted."""
    first, second = replicas
    ids = [f"r-{i}" for i in range(600)]
    for place in range(0, 600, 100):
        replicas[place // 100 % 2].predict([YES] * 100, ids=ids[place : place + 100])
    assert feedback(second, ids, "yes")["accepted"] == 600  # half of which the other one answered a moment ago
    more = [f"m-{i}" for i in range(400)]
    first.predict([NO] * 400, ids=more)
    told: list[Any] = []

    def send(gateway: "Gateway") -> None:
        told.append(FRESH.post(f"{gateway.url}{FEEDBACK}", json=outcomes(more, "yes")).json())

    threads = [threading.Thread(target=send, args=[gateway]) for gateway in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert sum(one["accepted"] for one in told) == 400
    assert [one["accepted"] + len(one["duplicate"]) for one in told] == [400, 400]
    assert confusion(report(first)) == confusion(report(second)) == [[400, 0, 400], [600, 0, 600], [0, 0, 0]]


def test_a_database_stopped_and_started(replicas: list["Gateway"], postgres: "Postgres") -> None:
    """Predictions do not notice; feedback waits outside; what was answered meanwhile is stored when it is back."""
    gateway = replicas[0]
    for replica in replicas:
        replica.expected += ['"level": "error".*the store is down', '"level": "warning".*the store is back']
    gateway.predict([YES] * 3, ids=["d-1", "d-2", "d-3"])
    assert feedback(gateway, ["d-1"], "yes")["accepted"] == 1
    postgres.stop()
    gateway.predict([YES] * 2, ids=["d-4", "d-5"])
    gateway.wait_for(lambda metrics: metrics["guardhouse_store_down"] == 1)
    for i in range(20):
        gateway.predict([YES], ids=[f"e-{i}"])
    refused = gateway.client.post(FEEDBACK, json=outcomes(["d-2"], "yes"))
    assert refused.status_code == 503
    assert "store is down" in refused.json()["detail"]
    assert gateway.client.get("/readyz").status_code == 200
    assert gateway.client.get(MONITORS).json()["totals"] == "process"
    postgres.start()
    gateway.wait_for(lambda metrics: metrics["guardhouse_store_down"] == 0)
    ids = ["d-2", "d-3", "d-4", "d-5", *(f"e-{i}" for i in range(20))]
    assert feedback(gateway, ids, "yes")["accepted"] == 24
    document = report(gateway)
    assert document["totals"] == "store"
    assert confusion(document) == [[0, 0, 0], [25, 0, 25], [0, 0, 0]]
    assert gateway.metrics()['guardhouse_store_rows_total{result="dropped"}'] == 0
    assert gateway.log().count("the store is down") == 1


def test_a_database_that_hangs(replicas: list["Gateway"], postgres: "Postgres") -> None:
    """Many readers of the monitors do not delay a scrape; the store counts as down until the database answers again."""
    gateway = replicas[0]
    for replica in replicas:
        replica.expected += ['"level": "error".*the store is down', '"level": "warning".*the store is back']
    gateway.predict([YES] * 3, ids=["h-1", "h-2", "h-3"])
    assert feedback(gateway, ["h-1"], "yes")["accepted"] == 1
    with postgres.hung(), ThreadPoolExecutor(24) as readers:
        asked = [readers.submit(FRESH.get, f"{gateway.url}{MONITORS}", timeout=STALL_SECONDS) for _ in range(12)]
        for scope in ("version", "lifetime"):
            asked += [
                readers.submit(FRESH.get, f"{gateway.url}{MONITORS}?of={scope}", timeout=STALL_SECONDS)
                for _ in range(6)
            ]
        gateway.predict([YES], ids=["h-4"])
        began, scrapes = time.monotonic(), 0
        while not all(one.done() for one in asked):
            assert FRESH.get(f"{gateway.url}/metrics").status_code == 200
            scrapes += 1
        readers_waited = time.monotonic() - began
        assert scrapes > 3  # a scrape that waited for the database would end with the readers
        answers = [one.result() for one in asked]
        assert [one.status_code for one in answers] == [200] * 12 + [503] * 12
        assert {one.json()["totals"] for one in answers[:12]} == {"process"}
        assert "\nguardhouse_store_down 1.0\n" in FRESH.get(f"{gateway.url}/metrics").text
        began = time.monotonic()
        refused = gateway.client.post(FEEDBACK, json=outcomes(["h-2"], "yes"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert report(gateway)["totals"] == "process"
        assert time.monotonic() - began < readers_waited  # now everybody knows
        assert gateway.client.get("/readyz").status_code == 200
    gateway.wait_for(lambda metrics: metrics["guardhouse_store_down"] == 0)
    assert feedback(gateway, ["h-2", "h-3", "h-4"], "yes")["accepted"] == 3
    assert confusion(report(gateway)) == [[0, 0, 0], [4, 0, 4], [0, 0, 0]]
    assert gateway.log().count("the store is down") == 1


def test_a_database_that_was_never_there(bundles: "Bundles", ledger: str, postgres: "Postgres") -> None:
    """A server starts without its database, predicts, and stores what it answered once there is one."""
    url = postgres.database()
    postgres.stop()
    gateway = bundles.serve(ledger, GUARDHOUSE_DATABASE_URL=url).wait_ready()
    gateway.expected += ['"level": "error".*the store is down', '"level": "warning".*the store is back']
    gateway.predict([NO], ids=["n-1"])
    assert gateway.client.post(FEEDBACK, json=outcomes(["n-1"], "no")).status_code == 503
    postgres.start()
    gateway.wait_for(lambda metrics: metrics["guardhouse_store_down"] == 0)
    assert feedback(gateway, ["n-1"], "no")["accepted"] == 1
    assert confusion(report(gateway)) == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    gateway.stop()


@pytest.fixture
def neighbours(bundles: "Bundles", ledger: str, tmp_path: Path) -> Iterator[list["Gateway"]]:
    """Start two servers on one folder, and so on one SQLite file, as a rolling restart does."""
    folder = str(tmp_path / "state")
    gateways = [bundles.serve(ledger, GUARDHOUSE_STATE=folder) for _ in range(2)]
    for gateway in gateways:
        gateway.wait_ready()
        gateway.expected.append("another server keeps the monitors' state there")
    yield gateways
    for gateway in gateways:
        gateway.stop()


def test_feedback_at_once_to_the_other_server_on_one_folder(neighbours: list["Gateway"]) -> None:
    """An outcome that is sent to the one server right after the other has answered is accepted, each of many times."""
    for number in range(40):
        one, other = neighbours if number % 2 else neighbours[::-1]
        one.predict([YES] * 2, ids=[f"n-{number}-a", f"n-{number}-b"])
        assert feedback(other, [f"n-{number}-a", f"n-{number}-b"], "yes")["accepted"] == 2
    # A server that waits for its neighbour for too long refuses the body.
    assert feedback(neighbours[0], ["never-answered"], "yes")["unknown"] == ["never-answered"]
    assert confusion(report(neighbours[0])) == confusion(report(neighbours[1])) == [[0, 0, 0], [80, 0, 80], [0, 0, 0]]


@pytest.mark.parametrize("lose", ["file", pytest.param("folder", marks=pytest.mark.slow)])
def test_what_is_acknowledged_after_the_file_was_deleted_survives_a_kill(
    bundles: "Bundles", ledger: str, tmp_path: Path, lose: str
) -> None:
    """Rows and outcomes that come after the loss are in the new file: a server finds them after kill -9."""
    folder = tmp_path / "state"
    gateway = bundles.serve(ledger, GUARDHOUSE_STATE=str(folder)).wait_ready()
    gateway.expected += ["was deleted or replaced", "WARNING|circus|restart|sentinel"]
    gateway.predict([YES], ids=["l-1"])
    assert feedback(gateway, ["l-1"], "yes")["accepted"] == 1
    if lose == "folder":
        shutil.rmtree(folder)
    else:
        (folder / "guardhouse.db").unlink()
    gateway.predict([YES], ids=["l-2"])
    assert feedback(gateway, ["l-1", "l-2"], "yes") == {
        "accepted": 1, "duplicate": [], "conflicting": [], "unknown": ["l-1"],
    }  # fmt: skip
    assert gateway.metrics()["guardhouse_store_files_lost_total"] == 1
    engine = gateway.engine
    engine.send_signal(signal.SIGKILL)
    gateway.wait_restarted(engine)
    assert feedback(gateway, ["l-2"], "yes")["duplicate"] == ["l-2"]
    assert confusion(report(gateway)) == [[0, 0, 0], [1, 0, 1], [0, 0, 0]]
    gateway.stop()
