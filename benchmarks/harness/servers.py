"""Servers under load: how each is started, at which path it predicts, and how its answer is read."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.harness.served_models import CNN, ServedModel

__all__ = ["GUARDS", "ROOT", "STACKS", "Server", "Stack", "gateway", "running", "start", "stop"]

ROOT = Path(__file__).resolve().parents[2]
STACKS = Path(__file__).resolve().parents[1] / "stacks"
GUARDS = [
    {"name": "quality", "detector": {"kind": "ranges"}},
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "confidence", "detector": {"kind": "confidence"}},
]
TRAINING_ROWS, HELDOUT_ROWS = 4000, 2000
START_SECONDS, STOP_SECONDS = 90, 60
READY = 200


@dataclass(frozen=True)
class Stack:
    """What can be started as a server: the command, to which the port is added, and the path that predicts.

    ``label`` reads the predicted class from the JSON answer to one row. ``v2_json`` says that the JSON is the Open
    Inference Protocol's. ``binary_path`` is the path for binary data; None if the server takes none. ``variable``
    names an environment variable that takes the port, in place of the command. ``worker`` is the role of the processes
    whose command lines name no other role.
    """

    name: str
    command: Sequence[str]
    path: str
    label: Callable[[Any], int]
    environment: Mapping[str, str] = field(default_factory=dict)
    binary_path: str | None = None
    ready: str = "/readyz"
    v2_json: bool = False
    variable: str | None = None
    worker: str = "worker"


@dataclass(frozen=True)
class Server:
    """A stack that runs: its first process, its port, and the folder of its log."""

    stack: Stack
    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def pid(self) -> int:
        """The first process, of which all others are children."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return _log(self.stack, self.folder).read_text(encoding="utf-8", errors="replace")

    @property
    def batch_rows(self) -> int | None:
        """How many rows our server chose to put into a batch, as its log says; None if the log says nothing."""
        said = re.search(r"batches of up to (\d+) rows", self.log)
        return int(said[1]) if said else None

    def predicted(self, body: bytes) -> int:
        """Ask for the class of one row.

        Raises:
            urllib.error.URLError: the server does not answer, or refuses.
        """
        url = f"http://127.0.0.1:{self.port}{self.stack.path}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return self.stack.label(json.load(answer))


def gateway(
    name: str,
    guards: list[dict[str, Any]],
    folder: Path,
    *,
    model: ServedModel = CNN,
    root: Path | None = None,
    **sections: Any,  # noqa: ANN401 - any section of a config
) -> Stack:
    """Fit a bundle of a model in a folder, with further sections of a config, and say how it is served.

    ``root`` is the checkout whose code fits and serves; default: this one. In another checkout, one worker process is
    front and engine. Leave if the fit fails.
    """
    if not (folder / "train.npz").exists():
        np.savez(folder / "train.npz", x=model.rows(TRAINING_ROWS, 1).numpy())
        np.savez(folder / "heldout.npz", x=model.rows(HELDOUT_ROWS, 2).numpy())
    config = {
        "name": "bench",
        "model": {"builder": model.builder, "device": "cpu"},
        "input": model.input,
        "reference": {"path": "train.npz", "calibration": "heldout.npz"},
        "guards": guards,
        **sections,
    }
    checkout = root or ROOT
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    cli = [sys.executable, "-m", "service"]
    fitted = subprocess.run(
        [*cli, "fit", str(path), "--out", str(folder / name)],
        check=False, capture_output=True, text=True, cwd=checkout, env={**os.environ, **environment},
    )  # fmt: skip
    if fitted.returncode:
        sys.exit(f"the bundle of {name!r} could not be fitted:\n{fitted.stdout}{fitted.stderr}")
    return Stack(
        name,
        [*cli, "serve", str(folder / name), "--config", str(path), "--host", "127.0.0.1", "--port"],
        "/v1/models/bench:predict",
        lambda answer: int(answer["predictions"][0]["label"]),
        environment,
        "/v2/models/bench/infer",
        worker="front" if root is None else "worker",
    )


def start(stack: Stack, folder: Path) -> Server:
    """Start a stack on a free port, its log in a folder, and wait until it is ready. Leave if it never is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, **stack.environment, **({stack.variable: str(port)} if stack.variable else {})}
    command = stack.command if stack.variable else [*stack.command, str(port)]
    # From the folder of the code: `python -m` puts the working directory before PYTHONPATH.
    place = stack.environment.get("PYTHONPATH", str(ROOT))
    with _log(stack, folder).open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, cwd=place, stdout=file, stderr=file, start_new_session=True
        )  # fmt: skip
    server = Server(stack, process, port, folder)
    deadline = time.monotonic() + START_SECONDS
    while not _ready(port, stack.ready):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(server)
            sys.exit(f"{stack.name} did not start:\n{server.log}")
        time.sleep(0.2)
    return server


def stop(server: Server) -> None:
    """Stop a server with all its children."""
    process = server.process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        sys.exit(f"{server.stack.name} did not stop within {STOP_SECONDS} seconds:\n{server.log}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # LitServe's workers outlive it, and ignore SIGTERM


@contextmanager
def running(stack: Stack, folder: Path) -> Iterator[Server]:
    """Run a stack for a while."""
    server = start(stack, folder)
    try:
        yield server
    finally:
        stop(server)


def _log(stack: Stack, folder: Path) -> Path:
    return folder / f"{stack.name}.log"


def _ready(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == READY)
    except (urllib.error.URLError, OSError):
        return False
