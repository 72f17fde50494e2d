"""What benchmarks send, and wrk, which sends it (Debian package `wrk`)."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from benchmarks.harness.served_models import CNN, ServedModel
from benchmarks.harness.servers import STACKS, Server, Stack

__all__ = ["Load", "check", "loads", "need_wrk", "start_wrk", "wrk", "wrk_counts"]

SEED = 3
SINGLE_ROW_CLIENTS = (1, 16, 64)
LONG_ROWS, LONG_CLIENTS = 32, 8


@dataclass(frozen=True)
class Load:
    """One kind of request: its body, and how many clients send it at once; ``v2_body`` is the same row in v2's JSON.

    ``header_length`` is the length of the JSON before binary data; None if the body is JSON.
    """

    name: str
    body: bytes
    rows: int
    clients: int
    v2_body: bytes = b""
    content_type: str = "application/json"
    header_length: int | None = None

    def suits(self, stack: Stack) -> bool:
        """Say whether a stack takes such requests."""
        return self.header_length is None or stack.binary_path is not None


def need_wrk() -> None:
    """Leave if there is no wrk."""
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")


def loads(model: ServedModel = CNN) -> list[Load]:
    """Make the requests: single rows in JSON, single rows and 32 as binary data."""
    x = model.rows(1, SEED)
    head = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    single = json.dumps({"instances": x.tolist()}).encode()
    v2_single = json.dumps({"inputs": [{**head, "data": x.ravel().tolist()}]}).encode()
    made = [
        Load(f"single-row JSON, {clients} clients", single, 1, clients, v2_single) for clients in SINGLE_ROW_CLIENTS
    ]
    for rows, clients in (*((1, clients) for clients in SINGLE_ROW_CLIENTS), (LONG_ROWS, LONG_CLIENTS)):
        array = model.rows(rows, 4).numpy()
        tensor = {**head, "shape": list(array.shape), "parameters": {"binary_data_size": array.nbytes}}
        header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        name = f"{'single' if rows == 1 else rows}-row binary v2, {clients} clients"
        body = header + array.tobytes()
        made.append(Load(name, body, rows, clients, b"", "application/octet-stream", len(header)))
    return made


def check(server: Server, model: ServedModel = CNN) -> None:
    """Leave if a server does not predict what the model does: its figures would be of something else."""
    with torch.inference_mode():
        expected = int(model.build()(model.rows(1, SEED)).argmax())
    single = loads(model)[0]
    found = server.predicted(single.v2_body if server.stack.v2_json else single.body)
    if found != expected:
        sys.exit(f"{server.stack.name} predicts class {found}; the model predicts {expected}")


def wrk(server: Server, load: Load, seconds: float) -> dict[str, float]:
    """Load a server for some whole seconds, one at least; return wrk's counts and percentiles."""
    return wrk_counts(start_wrk(server, load, seconds))


def start_wrk(
    server: Server,
    load: Load,
    seconds: float,
    *,
    path: str | None = None,
    script: str = "post.lua",
    settings: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start to load a server, on the path that predicts or on another; ``settings`` are variables for the script."""
    stack = server.stack
    content = load.v2_body if stack.v2_json else load.body
    body = server.folder / f"body-{hashlib.sha256(content).hexdigest()[:16]}"
    body.write_bytes(content)
    target = path or (stack.path if load.header_length is None else stack.binary_path)
    environment = {**os.environ, "BODY": str(body), "CONTENT_TYPE": load.content_type, **(settings or {})}
    if load.header_length is not None:
        environment["HEADER_LENGTH"] = str(load.header_length)
    return subprocess.Popen(
        ["wrk", "-t1", f"-c{load.clients}", f"-d{max(1, round(seconds))}s", "--timeout", "30s",
         "-s", str(STACKS / script), f"http://127.0.0.1:{server.port}{target}"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wrk_counts(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for wrk, and return its counts and percentiles."""
    said, _ = process.communicate()
    if process.returncode:
        sys.exit(f"wrk ended with {process.returncode}:\n{said}")
    counts: dict[str, float] = json.loads(said.partition("JSON")[2])
    return counts
