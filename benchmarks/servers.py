"""The servers that benchmarks load: how each is started, where it predicts, and how its answer is read."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.stacks.cnn import ROWS, images

__all__ = ["GUARDS", "ROOT", "STACKS", "Stack", "bare", "gateway", "mlserver", "running", "start", "stop"]

ROOT = Path(__file__).resolve().parent.parent
STACKS = Path(__file__).resolve().parent / "stacks"
GUARDS = [
    {"name": "quality", "detector": {"kind": "ranges"}},
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "confidence", "detector": {"kind": "confidence"}},
]
START_SECONDS = 60
READY = 200


@dataclass(frozen=True)
class Stack:
    """A server: the command that starts it on a port, and the path that predicts.

    ``label`` reads the predicted class from the JSON answer to one row; ``v2_json`` says that JSON is of the Open
    Inference Protocol; ``variable``, where there is one, names the environment variable that takes the port.
    """

    name: str
    command: list[str]
    path: str
    label: Callable[[Any], int]
    environment: dict[str, str] = field(default_factory=dict)
    binary_path: str | None = None
    ready: str = "/readyz"
    v2_json: bool = False
    variable: str | None = None


def gateway(name: str, guards: list[dict[str, Any]], folder: Path, **sections: dict[str, Any]) -> Stack:
    """Fit a bundle of the small CNN in a folder, with further sections of a config, and say how it is served."""
    if not (folder / "train.npz").exists():
        np.savez(folder / "train.npz", x=images(4000, 1).numpy())
        np.savez(folder / "heldout.npz", x=images(2000, 2).numpy())
    config = {
        "name": "bench",
        "model": {"builder": "benchmarks.stacks.cnn:build", "device": "cpu"},
        "input": {"kind": "image", "shape": [1, ROWS, ROWS]},
        "reference": {"path": "train.npz", "calibration": "heldout.npz"},
        "guards": guards,
        **sections,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    cli = [sys.executable, "-m", "service.cli"]
    subprocess.run(
        [*cli, "fit", str(path), "--out", str(folder / name)],
        check=True, capture_output=True, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip
    return Stack(
        name,
        [*cli, "serve", str(folder / name), "--config", str(path), "--host", "127.0.0.1", "--port"],
        "/v1/models/bench:predict",
        lambda answer: int(answer["predictions"][0]["label"]),
        environment,
        "/v2/models/bench/infer",
    )


def bare() -> Stack:
    """Say how BentoML alone serves it."""
    bentoml = [sys.executable, "-m", "bentoml", "serve", "benchmarks.stacks.bare:Bare"]
    return Stack(
        "bare BentoML",
        [*bentoml, "--working-dir", str(ROOT), "--port"],
        "/predict",
        lambda answer: int(np.argmax(answer[0])),
        {"OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"},
    )


def mlserver() -> Stack | None:
    """Say how MLServer serves it, where it is: by ``make bench-mlserver``, or in the Python of GUARDHOUSE_MLSERVER."""
    python = Path(os.environ.get("GUARDHOUSE_MLSERVER", ROOT / ".venv-mlserver" / "bin" / "python"))
    if not python.is_file():
        return None
    return Stack(
        "MLServer",
        [str(python), "-c", "from mlserver.cli import main; main()", "start", str(STACKS / "mlserver")],
        "/v2/models/bench/infer",
        lambda answer: int(np.argmax(answer["outputs"][0]["data"])),
        {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        ready="/v2/models/bench/ready",
        v2_json=True,
        variable="MLSERVER_HTTP_PORT",
    )


def start(stack: Stack, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a stack on a free port, its log in a folder, and wait until it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / f"{stack.name}.log"
    environment = {**os.environ, **stack.environment, **({stack.variable: str(port)} if stack.variable else {})}
    command = stack.command if stack.variable else [*stack.command, str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    deadline = time.monotonic() + START_SECONDS
    while not _ready(port, stack.ready):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(process)
            sys.exit(f"{stack.name} did not start:\n{log.read_text()}")
        time.sleep(0.2)
    return process, port


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a server with all its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=START_SECONDS)


@contextmanager
def running(stack: Stack, folder: Path) -> Iterator[int]:
    """Run a stack, and give its port."""
    process, port = start(stack, folder)
    try:
        yield port
    finally:
        stop(process)


def _ready(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == READY)
    except (urllib.error.URLError, OSError):
        return False


def predicted(stack: Stack, port: int, body: bytes) -> int:
    """Ask for the class of one row."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{stack.path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return stack.label(json.load(answer))
