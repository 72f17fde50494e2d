"""Starts servers as users start them, scrapes them as Prometheus does, and checks every answer that they give."""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from commands import run_each
from fresh_client import FRESH
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from waiting import until

from service.lifecycle.process_names import SERVING, SPARE, STARTING

ROOT = Path(__file__).parents[2]
QUIET = {"debug", "info"}
NAMED = re.compile(r"^(/v1/models/)[^/:]+")
PLAIN = "GUARDHOUSE_TEST_PLAIN" in os.environ
"""Whether servers are started without BentoML, as `make test-plain` does."""
NEEDS_BENTOML = pytest.mark.skipif(PLAIN, reason="only a server under BentoML has /schema.json, for BentoML's clients")
ENGINE = "service.lifecycle.engine_process"
STORE = "service.store.store_server"
FRONTS = {"_bentoml_impl.worker.service", "service.lifecycle.plain_front"}
PORTS = range(15_000, 32_000)
"""Below the range from which Linux takes the ports of connections, and of sockets that ask for any port."""
GIVEN = set[int]()
"""The ports that this process has given to its tests."""
START_SECONDS, STALL_SECONDS = 400, 120
"""Far more than a start, an answer or an end takes: on a busy machine, any process may stall."""
BENTOML_SERVE = [
    sys.executable, "-m", "bentoml", "serve", "service.app:Gateway", "--working-dir", str(ROOT),
    "--timeout-graceful-shutdown", "60",
]  # fmt: skip
"""What `guardhouse serve` becomes, without the address."""
GUARDHOUSE_SERVE = ["guardhouse", "serve"]
"""The command as a user types it: the command takes three seconds of processor time to become `BENTOML_SERVE`."""
BENTOML_BANNER = "Starting production HTTP BentoServer"
ON_THE_DEVICE = 'guardhouse_stage_duration_seconds_count{stage="queue"}'
"""A series that grows when requests leave the queue for the device."""
ALARM = re.compile(r'"monitor [\w-]+: from \w+ to alarm')
"""A log line that made-up traffic may cause without a fault."""


def cli(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a `guardhouse` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def clean_environment() -> dict[str, str]:
    """Give this environment without the variables that configure a gateway.

    Python may write bytecode: otherwise each process of each server compiles every module of ours again.
    """
    without = ("GUARDHOUSE_", "BENTOML_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(without)}


def fit_all(configs: Mapping[Path, Path], **environment: str) -> None:
    """Fit configs into bundles at the same time; the output of each is in ``BUNDLE.fit.txt``."""
    commands = [["fit", str(config), "--out", str(out)] for config, out in configs.items()]
    done = run_each(commands, folder=ROOT, environment=clean_environment() | environment)
    for (config, out), fitted in zip(configs.items(), done, strict=True):
        said = fitted.stdout + fitted.stderr
        assert fitted.returncode == 0, f"fit {config}:\n{said}"
        out.with_suffix(".fit.txt").write_text(said)


def free_port() -> int:
    """Find a port that no process uses, and that the kernel gives to no connection before a server listens there.

    No port is given twice, and of two parts of the suite that run at the same time, each has ports of its own.
    """
    mine = PORTS[os.getpid() % 16 :: 16]
    while True:
        port = random.SystemRandom().choice(mine)  # tests seed the other generator
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in GIVEN:
                GIVEN.add(port)
                return port


def listens(port: int) -> bool:
    """Say whether a process listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def gone(process: psutil.Process) -> bool:
    """Say whether a process has ended; its parent may take a while to collect its status."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it was read from a socket."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Gateway:
    """One server with all its processes, its log, and a client that checks every answer."""

    def __init__(
        self,
        bundle: Path,
        config: Path | None,
        folder: Path,
        *,
        port: int | None = None,
        prefix: Sequence[str] = (),
        program: Sequence[str | Path] | None = None,
        plain: bool = PLAIN,
        **environment: str,
    ) -> None:
        """Start a server; :meth:`wait_ready` waits until it is ready.

        ``prefix`` is a command that runs the server as another user; ``program`` replaces the server's command, such as
        by `GUARDHOUSE_SERVE`; ``plain`` starts the server without BentoML.
        """
        self.bundle, self.config, self.port = bundle, config, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"{self.port}.log"
        self.state = folder / f"{self.port}.state"  # one for each server, unless a test chooses another
        self.nap_gate = folder / f"{self.port}.nap"
        self.expected: list[str] = []
        self.faults_allowed = self.leaving = False
        self._environment = {
            **clean_environment(), "BENTOML_HOME": str(folder / "bentoml"), "GUARDHOUSE_STATE": str(self.state),
            "MADE_UP_NAP_GATE": str(self.nap_gate), **environment,
        }  # fmt: skip
        if config is not None:
            self._environment["GUARDHOUSE_CONFIG"] = str(config)
        if program == GUARDHOUSE_SERVE or (program is None and plain):
            program = [sys.executable, "-m", "service.cli.commands", "serve", bundle, *["--plain"] * plain]
        else:
            self._environment |= {"GUARDHOUSE_BUNDLE": str(bundle), "BENTOML_DO_NOT_TRACK": "True"}
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [*prefix, *(program or BENTOML_SERVE), "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, which tests signal as a terminal's Ctrl-C does
            )

    # Life

    def wait_ready(self) -> "Gateway":
        """Wait until readyz answers 200."""
        return self._wait(lambda: self._status("/readyz") == 200)

    def wait_listening(self) -> "Gateway":
        """Wait until the server gives any answer."""
        return self._wait(lambda: self._status("/livez") is not None)

    def wait_explaining(self, row: object) -> "Gateway":
        """Wait until the explanation process answers; the first question starts it, at low priority."""
        url = f"{self.url}/v1/models/{self.name}:explain"
        body = {"instances": [row], "parameters": {"method": "feature_ablation"}}
        return self._wait(lambda: FRESH.post(url, json=body).status_code == 200)

    def _wait(self, happened: Callable[[], bool]) -> "Gateway":
        try:
            until(happened, START_SECONDS, pause=0.05)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.log()}") from None
        return self

    def _status(self, path: str) -> int | None:
        """Ask a server that starts; None if the server does not listen yet."""
        assert self.process.poll() is None, "the server ended"
        with contextlib.suppress(httpx.TransportError):
            return FRESH.get(f"{self.url}{path}").status_code
        return None

    def wait_restarted(self, engine: psutil.Process) -> "Gateway":
        """Wait until the server is ready with another engine than this one, which was killed."""
        until(lambda: any(other.pid != engine.pid for other in self._engines(SERVING)))
        return self.wait_ready()

    def wait_fronts(self, count: int) -> list[psutil.Process]:
        """Wait until so many fronts listen for HTTP, and give them."""
        return until(lambda: fronts if len(fronts := self._listening_fronts()) == count else [])

    def wait_in_flight(self, request: Future[Any]) -> None:
        """Wait until the only request is in flight. If this process stalls, it may have its answer already."""
        self.wait_for(lambda metrics: metrics["guardhouse_inflight_requests"] == 1 or request.done())

    @contextlib.contextmanager
    def holding_naps(self) -> Iterator[None]:
        """Let a nap of :data:`example_folders.HELD` last until the end of the block."""
        self.nap_gate.touch()
        try:
            yield
        finally:
            self.nap_gate.unlink()

    def terminate(self) -> None:
        """Send one SIGTERM to the server, as Kubernetes does."""
        if not self.leaving:
            self.leaving = True
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = STALL_SECONDS) -> int:
        """Wait for the end of the server, and give its exit status."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Stop the server; it must end in order, and its log must hold no unexpected line."""
        self.client.close()
        if self.process.poll() is None:
            self.terminate()
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            for process in self._processes():
                process.kill()
            raise
        assert status == 0, f"exit status {status}:\n{self.log()}"
        assert not self.surprises(), "\n".join(self.surprises())

    def kill(self) -> None:
        """Kill all processes at once, as the loss of a machine does."""
        processes = self._processes()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, STALL_SECONDS)
        self.process.wait()
        self.client.close()

    def _processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [*parent.children(recursive=True), parent]

    @property
    def engine(self) -> psutil.Process:
        """The engine process, which runs the model."""
        (engine,) = self._engines(SERVING, STARTING)
        return engine

    def wait_spare(self) -> psutil.Process:
        """Wait until the engine has a spare that has imported what it needs."""
        (spare,) = until(lambda: self._engines(SPARE))
        return spare

    def _engines(self, *names: str) -> list[psutil.Process]:
        return [child for child, command in self._children() if ENGINE in command and child.name() in names]

    @property
    def store_processes(self) -> list[psutil.Process]:
        """The store's process, which the engine started; for a moment there is none if it was killed."""
        return [child for child, command in self._children(self.engine.pid) if STORE in command]

    @property
    def fronts(self) -> list[psutil.Process]:
        """The front processes, which speak HTTP."""
        return [child for child, command in self._children() if FRONTS & set(command)]

    def _listening_fronts(self) -> list[psutil.Process]:
        found = []
        for front in self.fronts:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                sockets = front.net_connections("tcp")
                if any(one.status == psutil.CONN_LISTEN and one.laddr.port == self.port for one in sockets):
                    found.append(front)
        return found

    def _children(self, parent: int | None = None) -> list[tuple[psutil.Process, list[str]]]:
        """Find a process's children, each with its command line; by default of the supervisor. Ended ones have none."""
        found = []
        for child in psutil.Process(parent or self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if command := child.cmdline():
                    found.append((child, command))
        return found

    def resident_bytes(self) -> int:
        """Measure the resident memory of all processes together."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # an idle process may end
                total += process.memory_info().rss
        return total

    # Log

    def log(self) -> str:
        """Read the whole log so far."""
        return self.log_path.read_text()

    def surprises(self) -> list[str]:
        """Give the log lines above level info that no test has announced in ``expected``."""
        return [line for line in self.log().splitlines() if line.strip() and not self._is_expected(line)]

    def _is_expected(self, line: str) -> bool:
        if BENTOML_BANNER in line or ALARM.search(line) or any(re.search(pattern, line) for pattern in self.expected):
            return True
        try:
            return json.loads(line)["level"] in QUIET
        except ValueError:
            return False

    @cached_property
    def _stores(self) -> bool:
        """Whether the deployed config leaves the store on, as it is by default."""
        document = yaml.safe_load(self.config.read_text()) if self.config is not None else {}
        return bool(document.get("store", {}).get("enabled", True))

    @property
    def batch_rows(self) -> int:
        """Find in the log the largest batch, in rows, which the server measured at its start."""
        found = re.search(r"batches of up to (\d+) rows", self.log())
        assert found
        return int(found[1])

    # Questions

    @cached_property
    def client(self) -> httpx.Client:
        """A client that checks every answer against the server's OpenAPI document."""
        return httpx.Client(base_url=self.url, timeout=STALL_SECONDS, event_hooks={"response": [self._read_and_check]})

    def async_client(self, connections: int) -> httpx.AsyncClient:
        """Give a client for many requests at once; it does not check the answers."""
        return httpx.AsyncClient(
            base_url=self.url,
            timeout=STALL_SECONDS,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=0),
        )

    @property
    def name(self) -> str:
        """The model's name."""
        names: list[str] = self.client.get("/v1/models").json()["models"]
        return names[0]

    @cached_property
    def predict_path(self) -> str:
        """The path of v1 predictions."""
        return f"/v1/models/{self.name}:predict"

    def post(self, body: object, path: str | None = None, **headers: str) -> httpx.Response:
        """Send a JSON body, or bytes as they are, to the v1 predict path."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            path or self.predict_path, content=content, headers={"Content-Type": "application/json", **named}
        )

    def predict(self, instances: Sequence[object], **more: object) -> list[dict[str, Any]]:
        """Send rows that must be answered with 200, and give the predictions."""
        response = self.post({"instances": instances, **more})
        assert response.status_code == 200, response.text
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        assert len(predictions) == len(instances)
        return predictions

    def connect(self, seconds: float = STALL_SECONDS) -> socket.socket:
        """Open a plain connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)

    def raw(self, request: bytes, seconds: float = STALL_SECONDS) -> RawAnswer:
        """Send bytes that no client would send, and read one answer."""
        with self.connect(seconds) as connection:
            connection.sendall(request)
            return read_answer(connection)

    def metrics(self, in_flight: int = 0) -> dict[str, float]:
        """Scrape every series, by its name and labels, after all answers so far have been counted everywhere.

        Rows are stored, and a front forgets a request, after the answer is sent. So this scrapes until the counters
        agree, and no more requests than ``in_flight`` are being answered.
        """

        def counted() -> dict[str, float] | None:
            found = self._scrape()
            few = found["guardhouse_inflight_requests"] <= in_flight
            return found if few and _consistent(found, stored=self._stores) else None

        found = until(counted, pause=0.02)
        assert found is not None
        return found

    def wait_for(self, true: Callable[[Mapping[str, float]], bool]) -> None:
        """Scrape until ``true`` is true of the series."""
        until(lambda: true(self._scrape()), pause=0.02)

    def _scrape(self) -> dict[str, float]:
        text = FRESH.get(f"{self.url}/metrics").text
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    # Answers

    @cached_property
    def openapi(self) -> dict[str, Any]:
        """The server's OpenAPI document."""
        document: dict[str, Any] = FRESH.get(f"{self.url}/openapi.json").json()
        return document

    @cached_property
    def _registry(self) -> Registry[Any]:
        return Registry().with_resource("urn:openapi", Resource(self.openapi, DRAFT202012))

    @cached_property
    def _validators(self) -> dict[str, Draft202012Validator]:
        return {}

    def validate(self, instance: object, *place: str) -> None:
        """Check a value against the schema at a place in the OpenAPI document."""
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in place)
        if pointer not in self._validators:
            self._validators[pointer] = Draft202012Validator(
                {"$ref": f"urn:openapi#/{pointer}"}, registry=self._registry
            )
        self._validators[pointer].validate(instance)

    def _read_and_check(self, response: httpx.Response) -> None:
        response.read()
        self.check(response)

    def check(self, response: httpx.Response) -> None:
        """Check an answer against the contract and against the server's OpenAPI document."""
        request, status, kind = response.request, response.status_code, response.headers["content-type"]
        asked = request.headers.get("x-request-id", "")
        told = response.headers["x-request-id"]
        assert told == asked or not re.fullmatch(r"[\x21-\x7e]{1,128}", asked)
        assert status != 500 or self.faults_allowed, self.log()[-2000:]
        head = request.method == "HEAD"
        assert not (head and response.content)
        if status >= 400:
            assert kind == "application/problem+json"
            assert status != 503 or 1 <= int(response.headers["retry-after"]) <= 60
        if status >= 400 and not head:
            problem = response.json()
            inference = request.url.path.startswith("/v2")  # the protocol asks for one key more
            self.validate(problem, "components", "schemas", "InferenceProblem" if inference else "Problem")
            more = {"error"} if inference else set()
            assert problem.keys() == {"type", "title", "status", "detail", "request_id", "errors"} | more
            assert problem["status"] == status
            assert problem["request_id"] == told
            assert len(problem["errors"]) <= 20
            assert "Traceback" not in response.text
        operation = self.openapi["paths"].get(request.url.path, {}).get(request.method.lower())
        if operation is None:
            return
        place = ("paths", request.url.path, request.method.lower())
        assert str(status) in operation["responses"], f"{place}: {status} is not declared"
        if status == 200 and request.method == "POST" and "json" in kind:
            self.validate(response.json(), *place, "responses", "200", "content", "application/json", "schema")
            if len(request.content) < 50_000 and "inference-header-content-length" not in request.headers:
                self.validate(
                    json.loads(request.content), *place, "requestBody", "content", "application/json", "schema"
                )


def _consistent(metrics: Mapping[str, float], *, stored: bool) -> bool:
    """Tell whether the counters of rows, streams, groups and the store, if there is one, agree."""
    sums: dict[str, float] = {}
    for name, value in metrics.items():
        if name.startswith("guardhouse_store_rows_total") and not stored:
            continue
        counter = re.match(
            r"guardhouse_(rows_total|store_rows_total|stream_bin_total.*stream=|group_predictions_total.*attribute=)",
            name,
        )
        if counter:
            key = re.search(r'(?:stream|attribute)="[^"]*"', name)
            key_name = key.group() if key else counter[1]
            sums[key_name] = sums.get(key_name, 0) + value
    return len(set(sums.values())) <= 1


def read_answer(connection: socket.socket) -> RawAnswer:
    """Read one answer from a plain connection."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return RawAnswer(response.status, headers, response.read())
    finally:
        response.close()


@contextlib.contextmanager
def faults_allowed(gateway: Gateway, *log_lines: str) -> Iterator[None]:
    """Allow answers of 500 and the log lines about them."""
    gateway.expected += log_lines
    gateway.faults_allowed = True
    try:
        yield
    finally:
        gateway.faults_allowed = False


def differing(after: Mapping[str, float], before: Mapping[str, float], prefix: str = "guardhouse_") -> dict[str, float]:
    """Give the change of every series that changed between two scrapes, but timings, the store's size, connections."""
    changing = ("_seconds_bucket", "_seconds_sum", "_seconds_total", "_seconds_count", "_timestamp_seconds", "_bytes")
    changing += ("_connections",)
    return {
        name: value - before.get(name, 0.0)
        for name, value in after.items()
        if name.startswith(prefix) and value != before.get(name, 0.0) and not name.partition("{")[0].endswith(changing)
    }


def same_answer(one: Mapping[str, Any], other: Mapping[str, Any], *, rows: int = 480) -> bool:
    """Tell whether two answers to a row agree as closely as batches of other shapes allow (contract, section 8).

    P-values from ``rows`` calibration rows may be one rank apart, if a score is nearly equal to a calibration score.
    """
    numbers = ("probabilities", "guards")
    if {**one, **dict.fromkeys(numbers)} != {**other, **dict.fromkeys(numbers)}:
        return False
    if any((name in one) != (name in other) for name in numbers):
        return False
    if one.get("probabilities", {}) != pytest.approx(other.get("probabilities", {}), abs=1e-5):
        return False
    ours, theirs = one.get("guards", {}), other.get("guards", {})
    return ours.keys() == theirs.keys() and all(
        {**guard, "p_value": 0} == {**theirs[name], "p_value": 0}
        and guard["p_value"] == pytest.approx(theirs[name]["p_value"], abs=1.01 / (rows + 1))
        for name, guard in ours.items()
    )
