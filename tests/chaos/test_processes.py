"""One process of a server is killed or stopped under load: no answer is mixed up, no accepted outcome is lost."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import psutil
import pytest
from fresh_client import FRESH
from gateways import BENTOML_BANNER, STALL_SECONDS, gone
from waiting import until

from service.lifecycle.shutdown import LAST_SECONDS

if TYPE_CHECKING:
    from gateways import Gateway
    from v2_client import Speaker

LOST = "has ended and is started again"
GONE = "the engine's process is gone: the supervisor restarts it"
SILENT = "does not answer"
LATE = "late"
READY_SECONDS = 5.0
"""From the death of the engine until the server is ready, with a model that loads in no time."""
SERVER: dict[str, int] = {}
EXPECTED = [LOST, "connection for rows", GONE, SILENT, "the engine has ended several times"]


class Load:
    """Clients that ask all the time, and check that every answer is the answer to their own row.

    ``codes`` counts answers by status, and failures by class. Two codes are no fault of the server, but of a machine
    that stalls: ``SILENT``, a refusal by a front that has heard nothing of the engine for seconds, and ``LATE``, a
    connection that ended because this client did not use it for longer than a server that stops waits.
    """

    def __init__(self, gateway: "Gateway", clients: int = 8) -> None:
        self.gateway, self.clients, self.codes = gateway, clients, Counter[str]()
        self.details: set[str] = set()
        self.crossed: list[Any] = []
        self.answered: list[str] = []
        self.failed: list[tuple[float, str]] = []
        """When each request that was not answered with 200 began, and its code."""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def _ask(self, number: int) -> None:
        value, asked, used = 0.001 * number, 0, time.monotonic()
        client = httpx.Client(base_url=self.gateway.url, timeout=STALL_SECONDS)
        while not self._stop.is_set():
            asked += 1
            value = round((value + 0.137) % 1, 3)
            name = f"{number}-{asked}"
            body = {"instances": [{"a": value, "b": 1, "c": 0.5}], "ids": [name]}
            began = time.monotonic()
            try:
                response = client.post("/predict", json=body)
            except httpx.TransportError as failure:
                code = LATE if time.monotonic() - used > LAST_SECONDS else type(failure).__name__
                client.close()
                client = httpx.Client(base_url=self.gateway.url, timeout=STALL_SECONDS)
            else:
                code = str(response.status_code)
                if code == "200":
                    (said,) = response.json()["predictions"]
                    if said["id"] != name or abs(said["value"] - (3 * value - 2 + 0.5)) > 1e-4:
                        self.crossed.append((name, value, said))
                    else:
                        self.answered.append(name)
                elif code == "503":
                    self.details.add(detail := response.json()["detail"])
                    code = SILENT if SILENT in detail else code
            used = time.monotonic()
            with self._lock:
                self.codes[code] += 1
            if code != "200":
                self.failed.append((began, code))
                time.sleep(0.02)
        client.close()

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Ask until the block ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def is_ready(gateway: "Gateway") -> bool:
    """Say whether the server says that it is ready."""
    try:
        return FRESH.get(f"{gateway.url}/readyz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def kill_the_engine(gateway: "Gateway", load: Load) -> float:
    """Kill the engine under load, wait until all is well, and return after how many seconds the server was ready."""
    gateway.wait_spare()
    begun, served = len(load.failed), load.codes["200"]
    until(lambda: load.codes["200"] > served + 50)
    engine, killed = gateway.engine, time.monotonic()
    engine.kill()
    gateway.wait_restarted(engine)
    seconds = time.monotonic() - killed
    until(lambda: all(is_ready(gateway) for _ in range(20)))  # each of the two fronts says so
    ready, served = time.monotonic(), load.codes["200"]
    until(lambda: load.codes["200"] > served + 50)
    failed = [began for began, code in load.failed[begun:] if code != SILENT]
    assert sum(began < killed for began in failed) <= load.clients, "a client has one request in flight"
    assert not [began for began in failed if began > ready]
    return seconds


def test_a_killed_engine(gateway: "Gateway") -> None:
    """Requests in flight get 503 and a word, the fronts stay, and the server is ready within 5 s; no label is lost.

    From the kill until the server is ready, requests are refused; before and afterwards none is.
    """
    fronts = {front.pid for front in gateway.fronts}
    row = {"instances": [{"a": 0.5, "b": 1, "c": 0.5}], "ids": ["labelled"]}
    assert gateway.post(row, "/predict").status_code == 200
    label = {"outcomes": [{"id": "labelled", "label": 0.25}]}
    feedback = f"/v1/models/{gateway.name}:feedback"
    assert gateway.post(label, feedback).json()["accepted"] == 1
    before = gateway._scrape()
    gateway.wait_spare()
    with Load(gateway).running() as load:
        for _ in range(3):  # a process may stall, but not every time
            if kill_the_engine(gateway, load) <= READY_SECONDS:
                break
        else:
            pytest.fail(f"the server is not ready {READY_SECONDS:g} s after its engine was killed")
    assert not load.crossed
    assert set(load.codes) - {SILENT} == {"200", "503"}, "every request has an answer"
    assert any(LOST in detail for detail in load.details)
    assert {front.pid for front in gateway.fronts} == fronts
    assert gateway.post(label, feedback).json()["duplicate"] == ["labelled"]
    after = gateway._scrape()
    fell = [
        name for name in before
        if name.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket")) and after[name] < before[name]
    ]  # fmt: skip
    assert not fell


def test_a_killed_front(gateway: "Gateway") -> None:
    """Only its own connections break; the other front goes on answering, and a new front takes its place."""
    killed, other = gateway.fronts
    engine = gateway.engine.pid
    with Load(gateway).running() as load:
        until(lambda: load.codes["200"] > 50)
        before = gateway._scrape()
        in_flight = connections(killed)
        killed.kill()
        until(lambda: killed not in gateway.wait_fronts(2))
        enough = load.codes["200"] + 100
        until(lambda: load.codes["200"] > enough)
    assert not load.crossed
    assert load.codes["503"] == 0
    failed = sum(number for code, number in load.codes.items() if code not in {"200", SILENT})
    assert failed <= in_flight, "a client has one request in flight on its connection"
    assert gateway.engine.pid == engine
    assert other.is_running()
    until(lambda: gateway._scrape()["guardhouse_queue_rows"] == 0)
    after = gateway._scrape()
    requests = "guardhouse_requests_total"
    assert sum(v for n, v in after.items() if n.startswith(requests)) >= sum(
        v for n, v in before.items() if n.startswith(requests)
    )


def test_a_new_front_refuses_nothing(gateway: "Gateway") -> None:
    """A front that takes a killed front's place can predict when it begins to listen: no new connection gets a 503."""
    row = {"instances": [{"a": 0.5, "b": 1, "c": 0.5}]}
    codes = Counter[str]()

    def ask() -> None:
        # The killed front's connections, also those that it had not accepted yet.
        with suppress(httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError):
            answer = FRESH.post(f"{gateway.url}/predict", json=row)
            silent = answer.status_code == 503 and SILENT in answer.json()["detail"]
            codes[SILENT if silent else str(answer.status_code)] += 1

    for _ in range(3):
        killed = gateway.wait_fronts(2)[0]
        killed.kill()
        while len(fronts := gateway._listening_fronts()) < 2 or killed in fronts:
            ask()
        for _ in range(30):
            ask()
    assert set(codes) - {SILENT} == {"200"}


class Labels:
    """A client that sends the label of every answered row until the label is accepted."""

    def __init__(self, gateway: "Gateway", load: Load) -> None:
        self.gateway, self.load = gateway, load
        self.codes = Counter[int]()
        self.acknowledged: list[str] = []

    def send(self, seconds: float) -> None:
        """Send labels for so many seconds."""
        end, sent = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            names = self.load.answered[sent : sent + 20]
            outcomes = [{"id": name, "label": 0.25} for name in names]
            if not outcomes:
                time.sleep(0.02)
                continue
            response = FRESH.post(f"{self.gateway.url}{self.path}", json={"outcomes": outcomes}, timeout=STALL_SECONDS)
            self.codes[response.status_code] += 1
            if response.status_code == 200:
                told = response.json()
                assert told["accepted"] + len(told["duplicate"]) == len(names), told
                self.acknowledged += names
                sent += len(names)

    @property
    def path(self) -> str:
        """The path of feedback."""
        return f"/v1/models/{self.gateway.name}:feedback"


def test_a_killed_store_process(serve: Callable[..., "Gateway"]) -> None:
    """Predictions go on as if nothing had happened; no row and no acknowledged label is lost, and none counts twice."""
    gateway = serve("values").wait_ready()
    gateway.expected += ["the store's process", "the store is down", "the store is back", SILENT]
    with Load(gateway, clients=4).running() as load:
        labels = Labels(gateway, load)
        for _ in range(2):
            labels.send(1.5)
            (killed,) = gateway.store_processes
            killed.kill()
            labels.send(0.5)
            until(lambda: gateway.store_processes not in ([], [killed]))  # noqa: B023 - called in this round
        labels.send(2.0)
    until(lambda: gateway._scrape()["guardhouse_store_down"] == 0)
    assert set(load.codes) - {SILENT} == {"200"}
    assert not load.crossed
    assert set(labels.codes) <= {200, 503}
    rest = [name for name in load.answered if name not in set(labels.acknowledged)]
    everything = [*labels.acknowledged, *rest]
    for start in range(0, len(everything), 5000):
        part = everything[start : start + 5000]
        outcomes = [{"id": name, "label": 0.25} for name in part]
        told = gateway.post({"outcomes": outcomes}, labels.path).json()
        known = set(labels.acknowledged) & set(part)
        assert known <= set(told["duplicate"])
        assert told["unknown"] == told["conflicting"] == []
    told = gateway.client.get(f"/v1/models/{gateway.name}/monitors").json()["monitors"]["accuracy"]["statistics"]
    counted = {statistic["name"]: statistic["n"] for statistic in told if not statistic["labels"]}
    assert (counted["mean_error"], counted["flagged_share"]) == (len(load.answered), len(load.answered))
    scraped = gateway._scrape()
    assert scraped['guardhouse_store_rows_total{result="dropped"}'] == 0
    stored = ("stored", "repeated")
    assert sum(scraped[f'guardhouse_store_rows_total{{result="{result}"}}'] for result in stored) == len(load.answered)


def test_a_stopped_store_process(serve: Callable[..., "Gateway"]) -> None:
    """While the store's process is stopped, predictions go on; feedback is refused in a sentence, and taken later."""
    gateway = serve("values").wait_ready()
    gateway.expected += ["the store is down", "the store is back", SILENT]
    with Load(gateway, clients=2).running() as load:
        until(lambda: load.codes["200"] > 20)
        (process,) = gateway.store_processes
        process.suspend()
        try:
            enough = load.codes["200"] + 100
            until(lambda: load.codes["200"] > enough)
            label = {"outcomes": [{"id": load.answered[-1], "label": 0.25}]}
            path = f"/v1/models/{gateway.name}:feedback"
            refused = FRESH.post(f"{gateway.url}{path}", json=label, timeout=STALL_SECONDS)
            assert refused.status_code == 503
            assert "nothing is lost" in refused.json()["detail"]
        finally:
            process.resume()
        until(lambda: FRESH.post(f"{gateway.url}{path}", json=label, timeout=STALL_SECONDS).status_code == 200)
    assert set(load.codes) - {SILENT} == {"200"}
    assert not load.crossed


def test_a_stopped_engine(gateway: "Gateway") -> None:
    """While the engine is stopped the server is not ready and refuses; once it goes on, everything goes on."""
    engine = gateway.engine
    with Load(gateway, clients=2).running() as load:
        until(lambda: load.codes["200"] > 10)
        engine.send_signal(signal.SIGSTOP)
        try:
            until(lambda: not any(is_ready(gateway) for _ in range(20)))  # each of the two fronts has noticed it
            assert SILENT in FRESH.get(f"{gateway.url}/readyz").json()["detail"]
            refused = FRESH.post(f"{gateway.url}/predict", json={"instances": [[1, 1, 1]]})
            assert refused.status_code == 503  # at once, while the engine is still stopped
        finally:
            engine.send_signal(signal.SIGCONT)
        until(lambda: is_ready(gateway))
        enough = load.codes["200"] + 20
        until(lambda: load.codes["200"] > enough)
    assert not load.crossed
    assert gateway.engine.pid == engine.pid


def test_a_stopped_front(gateway: "Gateway") -> None:
    """A front that is stopped keeps only its own clients waiting."""
    with Load(gateway).running() as load:
        until(lambda: load.codes["200"] > 50)
        stopped = min(gateway.fronts, key=connections)  # the other one has clients, too
        stopped.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.3)
            enough = load.codes["200"] + 100
            until(lambda: load.codes["200"] > enough)
        finally:
            stopped.send_signal(signal.SIGCONT)
        enough = load.codes["200"] + 100
        until(lambda: load.codes["200"] > enough)
    assert not load.crossed
    assert set(load.codes) - {SILENT} == {"200"}


def connections(front: psutil.Process) -> int:
    """Count the open connections of a front's clients."""
    return sum(one.status == psutil.CONN_ESTABLISHED for one in front.net_connections("tcp"))


@pytest.mark.usefixtures("gateway")
def test_two_fronts_share_the_port_of_grpc(two_fronts: "Speaker") -> None:
    """With several fronts every call is answered, whichever front gets it."""
    for _ in range(20):
        with grpc.insecure_channel(two_fronts.rpc) as channel:
            alive = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert alive(b"", timeout=STALL_SECONDS) == b"\x08\x01"


def test_draining_reaches_all_fronts(gateway: "Gateway") -> None:
    """A server that gets SIGTERM answers open requests on every front, and no process is left."""
    processes = gateway._processes()
    assert len(processes) >= 4
    with Load(gateway).running() as load:
        until(lambda: load.codes["200"] > 50)
        gateway.terminate()
        assert gateway.wait() == 0
    assert not load.crossed
    assert set(load.codes) - {SILENT, LATE} <= {"200", "ConnectError"}
    until(lambda: all(map(gone, processes)))


def test_without_bentoml(serve: Callable[..., "Gateway"]) -> None:
    """Started plainly, the same processes serve, and end in the same way; a front that is killed comes back."""
    gateway = serve("values", plain=True).wait_ready()
    assert BENTOML_BANNER not in gateway.log()
    (front,) = gateway.fronts
    assert gateway.post({"instances": [{"a": 1, "b": 1, "c": 0.5}]}, "/predict").status_code == 200
    assert gateway.client.get("/schema.json").status_code == 404
    front.kill()
    until(lambda: front not in gateway.wait_fronts(1))
    until(lambda: is_ready(gateway))
