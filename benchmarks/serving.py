"""Throughput and latency of the gateway beside what it stands on and what else there is, interleaved in one run.

Every round starts each stack in turn on the same cores and loads it with wrk (Debian package `wrk`), so that the
machine's moods hit all of them; figures are ratios within a round, given as median, minimum and maximum over rounds.
"""

import json
import math
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.stacks.cnn import ROWS, images

ROOT = Path(__file__).resolve().parent.parent
STACKS = Path(__file__).resolve().parent / "stacks"
GUARDS = [
    {"name": "quality", "detector": {"kind": "ranges"}},
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "confidence", "detector": {"kind": "confidence"}},
]
START_SECONDS = 60


@dataclass(frozen=True)
class Load:
    """One kind of request: its body, and how many clients send it at once."""

    name: str
    body: bytes
    rows: int
    clients: int
    content_type: str = "application/json"
    header_length: int | None = None


@dataclass(frozen=True)
class Stack:
    """A server: the command that starts it, and the path that predicts."""

    name: str
    command: list[str]
    environment: dict[str, str]
    path: str
    binary_path: str | None = None


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    if shutil.which("wrk") is None:
        sys.exit("the serving benchmark needs wrk: apt-get install wrk")
    rounds, seconds = (1, 1.0) if quick else (3, 5.0)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        stacks = _stacks(Path(folder))
        measured: list[dict[str, dict[str, float]]] = []
        ceilings: list[float] = []
        for round_number in range(rounds):
            results: dict[str, dict[str, float]] = {}
            for stack in stacks:
                with _running(stack, Path(folder)) as port:
                    for load in _loads():
                        if load.header_length is not None and stack.binary_path is None:
                            continue
                        console.print(f"round {round_number + 1}/{rounds}: {stack.name}, {load.name}", highlight=False)
                        results[f"{stack.name}, {load.name}"] = _wrk(stack, load, port, seconds, Path(folder))
            loop = subprocess.run(
                [sys.executable, "-m", "benchmarks.stacks.loop", str(seconds / 4)],
                capture_output=True, check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            ceilings.append(max(json.loads(loop.stdout).values()))
            measured.append(results)
    document = {"machine": describe(), "rounds": rounds, "seconds": seconds, **_summary(measured, ceilings)}
    _show(document, console)
    print(json.dumps(document, indent=1))


def _stacks(folder: Path) -> list[Stack]:
    """Fit the bundles, and say how each stack is started."""
    np.savez(folder / "train.npz", x=images(4000, 1).numpy())
    np.savez(folder / "heldout.npz", x=images(2000, 2).numpy())
    stacks = []
    for name, guards in (("guarded", GUARDS), ("unguarded", [])):
        config = {
            "name": "bench",
            "model": {"builder": "benchmarks.stacks.cnn:build", "device": "cpu"},
            "input": {"kind": "image", "shape": [1, ROWS, ROWS]},
            "reference": {"path": "train.npz", "calibration": "heldout.npz"},
            "guards": guards,
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        cli = [sys.executable, "-m", "service.cli"]
        subprocess.run(
            [*cli, "fit", str(path), "--out", str(folder / name)],
            check=True, capture_output=True, cwd=ROOT, env={**os.environ, **environment},
        )  # fmt: skip
        command = [*cli, "serve", str(folder / name), "--config", str(path), "--host", "127.0.0.1", "--port"]
        stacks.append(Stack(name, command, environment, "/v1/models/bench:predict", "/v2/models/bench/infer"))
    bare = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "benchmarks.stacks.bare:Bare",
        "--working-dir",
        str(ROOT),
        "--port",
    ]
    stacks.append(Stack("bare BentoML", bare, {"OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"}, "/predict"))
    return stacks


def _loads() -> list[Load]:
    single = json.dumps({"instances": images(1, 3).tolist()}).encode()
    loads = [Load(f"single-row JSON, {clients} clients", single, 1, clients) for clients in (1, 16, 64)]
    for rows, clients in ((1, 1), (1, 16), (1, 64), (32, 8)):
        x = images(rows, 4).numpy()
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "shape": list(x.shape),
                        "datatype": "FP32",
                        "parameters": {"binary_data_size": x.nbytes},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        name = f"{'single' if rows == 1 else rows}-row binary v2, {clients} clients"
        loads.append(Load(name, header + x.tobytes(), rows, clients, "application/octet-stream", len(header)))
    return loads


@contextmanager
def _running(stack: Stack, folder: Path) -> Iterator[int]:
    """Start a stack on a free port, and stop it with all its children."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / f"{stack.name}.log").open("wb")
    process = subprocess.Popen(
        [*stack.command, str(port)],
        env={**os.environ, **stack.environment},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{stack.name} did not start:\n{(folder / f'{stack.name}.log').read_text()}")
            time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=START_SECONDS)
        log.close()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


def _wrk(stack: Stack, load: Load, port: int, seconds: float, folder: Path) -> dict[str, float]:
    """Load a stack after a short warm-up, and refuse a figure in which requests failed."""
    body = folder / "body"
    body.write_bytes(load.body)
    path = stack.path if load.header_length is None else stack.binary_path
    environment = {**os.environ, "BODY": str(body), "CONTENT_TYPE": load.content_type}
    if load.header_length is not None:
        environment["HEADER_LENGTH"] = str(load.header_length)
    result: dict[str, float] = {}
    for duration in (max(1.0, seconds / 4), seconds):
        done = subprocess.run(
            ["wrk", "-t1", f"-c{load.clients}", f"-d{round(duration)}s", "--timeout", "30s",
             "-s", str(STACKS / "post.lua"), f"http://127.0.0.1:{port}{path}"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        result = json.loads(done.stdout.partition("JSON")[2])
    good = result["requests"] - result["not_2xx"]
    return {
        "rows_per_second": good * load.rows / result["seconds"],
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "failed_share": (result["not_2xx"] + result["broken"]) / max(1.0, result["requests"]),
    }


def _summary(measured: list[dict[str, dict[str, float]]], ceilings: list[float]) -> dict[str, object]:
    """Give medians, and the ratios round by round with their spread."""
    names = list(measured[0])
    figures = {
        name: {key: statistics.median(results[name][key] for results in measured) for key in measured[0][name]}
        for name in names
    }
    ratios = {}
    for name in names:
        stack, _, load = name.partition(", ")
        if stack != "guarded":
            continue
        for other in ("unguarded", "bare BentoML"):
            beside = f"{other}, {load}"
            if beside in names:
                for key in ("rows_per_second", "p99_ms"):
                    ratios[f"guarded / {other}, {load}, {key}"] = _spread(
                        [_ratio(results[name][key], results[beside][key]) for results in measured]
                    )
        ratios[f"guarded / model in a loop, {load}, rows_per_second"] = _spread(
            [results[name]["rows_per_second"] / ceiling for results, ceiling in zip(measured, ceilings, strict=True)]
        )
    return {"model_in_a_loop_rows_per_second": statistics.median(ceilings), "figures": figures, "ratios": ratios}


def _ratio(figure: float, beside: float) -> float:
    return figure / beside if beside else math.nan


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "minimum": min(values), "maximum": max(values)}


def _show(document: dict[str, object], console: Console) -> None:
    figures, ratios = document["figures"], document["ratios"]
    assert isinstance(figures, dict)  # noqa: S101
    assert isinstance(ratios, dict)  # noqa: S101
    grid = Table("stack, load", "rows/s", "p50 ms", "p99 ms", "failed", title="medians over the rounds")
    for name, row in figures.items():
        grid.add_row(
            name,
            f"{row['rows_per_second']:.0f}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.1f}",
            f"{row['failed_share']:.1%}",
        )
    console.print(grid)
    grid = Table("ratio", "median", "minimum", "maximum", title="side by side, round by round")
    for name, row in ratios.items():
        grid.add_row(name, *(f"{row[key]:.2f}" for key in ("median", "minimum", "maximum")))
    console.print(grid)
