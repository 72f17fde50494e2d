"""Half an hour of mixed traffic: memory, open files and threads of every process must stay flat.

Clients with keys predict single rows and many, send labels, ask for explanations, read monitors and metrics; others
send bytes slowly or nothing; and the file of keys changes all the time. The first fifth of the time is for caches,
heaps and timers to fill. Over the rest, a line is drawn through each figure (:mod:`benchmarks.harness.trend`).
"""

import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console

from benchmarks.harness.processes import memory
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.served_models import CNN
from benchmarks.harness.servers import GUARDS, Server, gateway, running
from benchmarks.harness.trend import Trend, trend
from service.keys.key_file import add_key
from service.keys.principal import SCOPES

SECONDS, QUICK_SECONDS = 1800.0, 12.0
SAMPLES = 180
"""How often the figures are read."""
WARM_SHARE = 0.2
MODEL = "/v1/models/bench"
EXPLAIN = {"rate": 1e6, "burst": 10**6, "keep_seconds": 60, "cache_bytes": 1 << 20}
"""Jobs and answers are kept so shortly that they come and go, and the explanation process never rests."""
SLOW_CONNECTIONS = 20
BROKEN = "no answer"
Act = Callable[[httpx.Client, int, int], httpx.Response | None]
"""What a client does at one turn: it gets its number and the number of the turn."""


class Traffic:
    """The clients of a server: each is a thread that does one thing after another until the end, at its own pace."""

    def __init__(self, server: Server, keys: Path) -> None:
        """Make a key for the clients."""
        self._port, self._keys = server.port, keys
        self._key = add_key(keys, "client", list(SCOPES))
        self._first_keys = keys.read_bytes()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._answered: list[tuple[str, str]] = []
        self.codes: Counter[str] = Counter()
        """How many answers there were, by kind of client and status."""
        rows = CNN.rows(32, 5).tolist()
        self._single, self._many = rows[:1], rows

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send until the block ends."""
        kinds: list[tuple[str, float, Act]] = [
            *[("single", 0.02, self._predict_one)] * 4, ("many", 0.1, self._predict_many),
            ("feedback", 0.1, self._tell), ("explain", 0.5, self._explain), ("monitors", 2.0, self._read),
            ("keys", 2.0, self._change_keys), ("slow", 1.0, self._dribble),
        ]  # fmt: skip
        threads = [
            threading.Thread(target=self._repeat, args=(number, *kind), daemon=True)
            for number, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _repeat(self, number: int, kind: str, pause: float, act: Act) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", headers=headers, timeout=60) as client:
            turn = 0
            while not self._stop.wait(pause):
                turn += 1
                try:
                    answer = act(client, number, turn)
                    code = None if answer is None else str(answer.status_code)
                except httpx.TransportError:
                    code = BROKEN
                if code is not None:
                    with self._lock:
                        self.codes[f"{kind} {code}"] += 1

    def _predict_one(self, client: httpx.Client, number: int, turn: int) -> httpx.Response:
        name = f"{number}-{turn}"
        answer = client.post(f"{MODEL}:predict", json={"instances": self._single, "ids": [name]})
        if answer.is_success:
            with self._lock:
                self._answered.append((name, answer.json()["predictions"][0]["label"]))
        return answer

    def _predict_many(self, client: httpx.Client, *_: int) -> httpx.Response:
        return client.post(f"{MODEL}:predict", json={"instances": self._many})

    def _tell(self, client: httpx.Client, *_: int) -> httpx.Response | None:
        with self._lock:
            told, self._answered = self._answered, []
        outcomes = [{"id": name, "label": label} for name, label in told if label is not None]
        return client.post(f"{MODEL}:feedback", json={"outcomes": outcomes}) if outcomes else None

    def _explain(self, client: httpx.Client, _: int, turn: int) -> httpx.Response:
        row = deepcopy(self._many[turn % len(self._many)])
        row[0][0][0] = turn / 2**20  # a row that no cache knows
        later = {"Prefer": "respond-async"} if turn % 4 == 0 else {}
        return client.post(f"{MODEL}:explain", json={"instances": [row]}, headers=later)

    def _read(self, client: httpx.Client, _: int, turn: int) -> httpx.Response:
        return client.get("/metrics" if turn % 2 else f"{MODEL}/monitors")

    def _change_keys(self, client: httpx.Client, _: int, turn: int) -> httpx.Response:
        """Write a key that was not there, without the key of the last time."""
        spare = self._keys.with_suffix(".new")
        spare.write_bytes(self._first_keys)
        add_key(spare, f"visitor-{turn}", ["predict"])
        spare.replace(self._keys)
        return client.get("/v1/models")

    def _dribble(self, *_: object) -> None:
        """Open connections, send a piece of a request, and leave in the middle of the body."""
        opened: list[socket.socket] = []
        try:
            for each in range(SLOW_CONNECTIONS):
                opened.append(socket.create_connection(("127.0.0.1", self._port), timeout=10))
                if each % 2:
                    head = f"POST {MODEL}:predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n"
                    opened[-1].sendall(f"{head}Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n".encode())
            for piece in (b"{", b'"instances', b'": [['):
                self._stop.wait(0.5)
                for connection in opened[1::2]:
                    with suppress(OSError):
                        connection.sendall(piece)
        except OSError:
            with self._lock:
                self.codes[f"slow {BROKEN}"] += 1
        finally:
            for connection in opened:
                connection.close()


def main(*, quick: bool, seconds: float | None = None) -> None:
    """Send the traffic, read the figures, say whether they are flat, and print a table and the JSON document."""
    seconds = seconds or (QUICK_SECONDS if quick else SECONDS)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = folder / "keys.yaml"
        add_key(keys, "first", ["predict"])
        stack = gateway("soaked", GUARDS, folder, explain=EXPLAIN)
        stack = replace(stack, environment={**stack.environment, "GUARDHOUSE_API_KEYS_FILE": str(keys)})
        with running(stack, folder) as server:
            traffic = Traffic(server, keys)
            samples: list[tuple[float, dict[str, float]]] = []
            with traffic.running():
                started, moments = time.monotonic(), random.Random(0)  # noqa: S311 - no secret
                while (now := time.monotonic() - started) < seconds:
                    samples.append((now, _figures(server)))
                    # At random moments: otherwise the samples may keep step with the clients.
                    time.sleep(seconds / SAMPLES * moments.uniform(0.5, 1.5))
                    if len(samples) % (SAMPLES // 6) == 0:
                        console.print(f"{now:.0f} s: {samples[-1][1]}", highlight=False)
    warm = [sample for sample in samples if sample[0] >= WARM_SHARE * seconds]
    trends = {
        figure: trend([at for at, _ in warm], [read[figure] for _, read in warm])
        for figure in warm[0][1]
        if all(figure in read for _, read in warm)
    }
    print_table("answers", {kind: {"number": number} for kind, number in sorted(traffic.codes.items())})
    print_table(
        f"growth over the last {(1 - WARM_SHARE) * seconds:.0f} s, with 95 % intervals",
        {figure: _row(each) for figure, each in trends.items()},
    )
    print_document("soak", quick=quick, seconds=seconds, answers=dict(traffic.codes), trends=trends, samples=samples)


def _row(each: Trend) -> dict[str, Any]:
    share = each.greatest / each.mean if each.mean else 0.0
    return {"mean": each.mean, "growth": str(each), "at most": f"{share:+.1%}", "flat": each.is_flat}


def _figures(server: Server) -> dict[str, float]:
    """Read the memory of every role, and the open files and threads of all processes together."""
    found = {f"{role}, MiB": each.rss_mib for role, each in memory(server.pid, server.stack.worker).items()}
    root = psutil.Process(server.pid)
    files = threads = 0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            files += process.num_fds()
            threads += process.num_threads()
    return {**found, "open files": float(files), "threads": float(threads)}
