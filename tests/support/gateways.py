"""Servers under test: started as users start them, watched as Prometheus watches them, and every answer checked."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ROOT = Path(__file__).parents[2]
QUIET = {"debug", "info"}
NAMED = re.compile(r"^(/v1/models/)[^/:]+")
BENTOML_BANNER = "Starting production HTTP BentoServer"
ALARM = re.compile(r'"monitor [\w-]+: from \w+ to alarm')
"""What traffic that is made up may well cause."""


def cli(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def clean_environment() -> dict[str, str]:
    """Give this environment without what would configure a gateway."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GUARDHOUSE_", "BENTOML_"))}


def fit_all(configs: Mapping[Path, Path], **environment: str) -> None:
    """Fit configs into bundles, side by side; what was said is in ``BUNDLE.fit.txt``."""
    running = {
        config: subprocess.Popen(
            [sys.executable, "-m", "service.cli", "fit", config, "--out", out],
            cwd=ROOT,
            env=clean_environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for config, out in configs.items()
    }
    try:
        for config, process in running.items():
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, f"fit {config}:\n{said}"
            configs[config].with_suffix(".fit.txt").write_text(said)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came over a socket."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Gateway:
    """One server process with its supervisor, its log and a client that checks every answer it gets."""

    def __init__(
        self,
        bundle: Path,
        config: Path | None,
        folder: Path,
        *,
        port: int | None = None,
        prefix: Sequence[str] = (),
        program: Sequence[str | Path] | None = None,
        **environment: str,
    ) -> None:
        """Start a server; :meth:`wait_ready` waits for it.

        ``prefix`` is a command that runs the server as somebody else; ``program`` starts it in another way than
        `guardhouse serve`.
        """
        self.bundle, self.config, self.port = bundle, config, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"{self.port}.log"
        self.state = folder / f"{self.port}.state"  # each server's own, unless a test says otherwise
        self.expected: list[str] = []
        self.faults_allowed = self.leaving = False
        self._environment = {
            **clean_environment(), "BENTOML_HOME": str(folder / "bentoml"), "GUARDHOUSE_STATE": str(self.state),
            **environment,
        }  # fmt: skip
        if config is not None:
            self._environment["GUARDHOUSE_CONFIG"] = str(config)
        if program is not None:
            self._environment["GUARDHOUSE_BUNDLE"] = str(bundle)
        command = program or [sys.executable, "-m", "service.cli", "serve", bundle]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [*prefix, *command, "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is sent to a whole group
            )

    # Life

    def wait_ready(self, seconds: float = 60) -> "Gateway":
        """Wait for readyz to say 200."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended:\n{self.log()}"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s:\n{self.log()}")

    def wait_listening(self, seconds: float = 60) -> "Gateway":
        """Wait for any answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended:\n{self.log()}"
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{self.url}/livez")
                return self
            time.sleep(0.05)
        raise AssertionError(f"nobody listens after {seconds} s:\n{self.log()}")

    def wait_explaining(self, row: object, seconds: float = 120) -> "Gateway":
        """Wait for the process that explains, which is started by the first question, and last in line."""
        end = time.monotonic() + seconds
        body = {"instances": [row], "parameters": {"method": "feature_ablation"}}
        while httpx.post(f"{self.url}/v1/models/{self.name}:explain", json=body, timeout=60).status_code != 200:
            assert time.monotonic() < end, self.log()
        return self

    def terminate(self) -> None:
        """Ask the server to leave, once, as Kubernetes does."""
        if not self.leaving:
            self.leaving = True
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 30) -> int:
        """Wait for the server to leave; its exit status."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Stop the server; it must leave in order, and its log must hold nothing unexpected."""
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
        """Kill supervisor and worker at once, as a machine that goes away does."""
        processes = self._processes()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, 10)
        self.process.wait()
        self.client.close()

    def _processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [*parent.children(recursive=True), parent]

    def resident_bytes(self) -> int:
        """Measure the memory of supervisor and worker."""
        return sum(process.memory_info().rss for process in self._processes())

    # Log

    def log(self) -> str:
        """Read everything that was logged so far."""
        return self.log_path.read_text()

    def surprises(self) -> list[str]:
        """Give the lines of the log that nobody announced by ``expected``."""
        return [line for line in self.log().splitlines() if line.strip() and not self._is_expected(line)]

    def _is_expected(self, line: str) -> bool:
        if BENTOML_BANNER in line or ALARM.search(line) or any(re.search(pattern, line) for pattern in self.expected):
            return True
        try:
            return json.loads(line)["level"] in QUIET
        except ValueError:
            return False

    @property
    def batch_rows(self) -> int:
        """Find the most rows of a batch, as the server measured at its start."""
        found = re.search(r"batches of up to (\d+) rows", self.log())
        assert found
        return int(found[1])

    # Questions

    @cached_property
    def client(self) -> httpx.Client:
        """A client that checks every answer against what the server declares."""
        return httpx.Client(base_url=self.url, timeout=30, event_hooks={"response": [self._read_and_check]})

    def async_client(self, connections: int) -> httpx.AsyncClient:
        """Give a client for many requests at once; its answers are for the test to check."""
        return httpx.AsyncClient(
            base_url=self.url, timeout=60, limits=httpx.Limits(max_connections=connections, max_keepalive_connections=0)
        )

    @property
    def name(self) -> str:
        """The model's name."""
        names: list[str] = self.client.get("/v1/models").json()["models"]
        return names[0]

    @cached_property
    def predict_path(self) -> str:
        """Where v1 predictions are."""
        return f"/v1/models/{self.name}:predict"

    def post(self, body: object, path: str | None = None, **headers: str) -> httpx.Response:
        """Send a JSON body, or bytes as they are, to the v1 predict path."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            path or self.predict_path, content=content, headers={"Content-Type": "application/json", **named}
        )

    def predict(self, instances: Sequence[object], **more: object) -> list[dict[str, Any]]:
        """Predict rows that must be answered."""
        response = self.post({"instances": instances, **more})
        assert response.status_code == 200, response.text
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        assert len(predictions) == len(instances)
        return predictions

    def connect(self, seconds: float = 15) -> socket.socket:
        """Open a plain connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)

    def raw(self, request: bytes, seconds: float = 15) -> RawAnswer:
        """Send bytes that no client would send, and read one answer."""
        with self.connect(seconds) as connection:
            connection.sendall(request)
            return read_answer(connection)

    def metrics(self) -> dict[str, float]:
        """Scrape: every series by its name and labels, once what was answered has been counted everywhere."""
        time.sleep(0.02)  # rows are counted after their answer is sent
        for _ in range(100):
            found = self._scrape()
            if _consistent(found):
                break
            time.sleep(0.02)
        return found

    def wait_for(self, true: Callable[[Mapping[str, float]], bool], seconds: float = 10) -> None:
        """Scrape until something is true."""
        end = time.monotonic() + seconds
        while not true(self._scrape()):
            assert time.monotonic() < end
            time.sleep(0.01)

    def _scrape(self) -> dict[str, float]:
        text = httpx.get(f"{self.url}/metrics").text
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    # Answers

    @cached_property
    def openapi(self) -> dict[str, Any]:
        """What the server says of itself."""
        document: dict[str, Any] = httpx.get(f"{self.url}/openapi.json").json()
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
        """Check an answer against the contract and against what the server declares."""
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
            inference = request.url.path.startswith("/v2")  # whose protocol asks for one key more
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


def _consistent(metrics: Mapping[str, float]) -> bool:
    """Tell whether rows, streams, groups and the store all count the same rows."""
    sums: dict[str, float] = {}
    for name, value in metrics.items():
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
    """Allow answers of 500, and the lines that a log has of them."""
    gateway.expected += log_lines
    gateway.faults_allowed = True
    try:
        yield
    finally:
        gateway.faults_allowed = False


def differing(after: Mapping[str, float], before: Mapping[str, float], prefix: str = "guardhouse_") -> dict[str, float]:
    """Give what moved between two scrapes, by series; timings and the size of the store are left out."""
    changing = ("_seconds_bucket", "_seconds_sum", "_seconds_total", "_seconds_count", "_timestamp_seconds", "_bytes")
    return {
        name: value - before.get(name, 0.0)
        for name, value in after.items()
        if name.startswith(prefix) and value != before.get(name, 0.0) and not name.partition("{")[0].endswith(changing)
    }


def same_answer(one: Mapping[str, Any], other: Mapping[str, Any], *, rows: int = 480) -> bool:
    """Tell whether two answers to a row agree as closely as other batch shapes allow (contract, section 8).

    P-values of ``rows`` calibration rows may be a rank apart, where a score lies that close to a calibration score.
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
