"""What benchmarks send, and wrk, which sends it (Debian package `wrk`)."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.servers import STACKS, Stack, predicted
from benchmarks.stacks.cnn import build, images

__all__ = ["Load", "check", "loads", "need_wrk", "wrk"]

SEED = 3


@dataclass(frozen=True)
class Load:
    """One kind of request: its body, and how many clients send it at once; ``v2_body`` is the same row in v2's JSON."""

    name: str
    body: bytes
    rows: int
    clients: int
    v2_body: bytes = b""
    content_type: str = "application/json"
    header_length: int | None = None


def need_wrk() -> None:
    """Leave where there is no wrk."""
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")


def loads() -> list[Load]:
    """Make the requests: single rows in JSON, single rows and 32 as binary data."""
    x = images(1, SEED)
    head = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    single = json.dumps({"instances": x.tolist()}).encode()
    v2_single = json.dumps({"inputs": [{**head, "data": x.ravel().tolist()}]}).encode()
    made = [Load(f"single-row JSON, {clients} clients", single, 1, clients, v2_single) for clients in (1, 16, 64)]
    for rows, clients in ((1, 1), (1, 16), (1, 64), (32, 8)):
        array = images(rows, 4).numpy()
        tensor = {**head, "shape": list(array.shape), "parameters": {"binary_data_size": array.nbytes}}
        header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        name = f"{'single' if rows == 1 else rows}-row binary v2, {clients} clients"
        body = header + array.tobytes()
        made.append(Load(name, body, rows, clients, b"", "application/octet-stream", len(header)))
    return made


def check(stack: Stack, load: Load, port: int) -> None:
    """Leave where a stack does not predict what the model does: its figures would be of something else."""
    with torch.inference_mode():
        expected = int(build()(images(1, SEED)).argmax())
    found = predicted(stack, port, load.v2_body if stack.v2_json else load.body)
    if found != expected:
        sys.exit(f"{stack.name} predicts class {found}, where the model says {expected}")


def wrk(stack: Stack, load: Load, port: int, seconds: float, folder: Path) -> dict[str, float]:
    """Load a stack for some seconds, and give wrk's counts and percentiles."""
    body = folder / "body"
    body.write_bytes(load.v2_body if stack.v2_json else load.body)
    path = stack.path if load.header_length is None else stack.binary_path
    environment = {**os.environ, "BODY": str(body), "CONTENT_TYPE": load.content_type}
    if load.header_length is not None:
        environment["HEADER_LENGTH"] = str(load.header_length)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{load.clients}", f"-d{round(seconds)}s", "--timeout", "30s",
         "-s", str(STACKS / "post.lua"), f"http://127.0.0.1:{port}{path}"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    counts: dict[str, float] = json.loads(done.stdout.partition("JSON")[2])
    return counts
