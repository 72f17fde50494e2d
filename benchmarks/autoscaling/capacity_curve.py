"""The capacity curve of one replica, measured on this machine, and the queue that is fitted to it.

wrk keeps several hundred connections, each of which pauses for a random time before its next request: nearly Poisson
arrivals, whose rate hardly depends on how fast answers come. Every other rate is held out of the fit.
"""

import math
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.optimize import least_squares, nnls

from benchmarks.autoscaling.replica import Replica, quantile, steady
from benchmarks.autoscaling.replica_tables import Curve
from benchmarks.harness.load import Load, check, loads, start_wrk, wrk, wrk_counts
from benchmarks.harness.servers import GUARDS, Server, gateway, running

__all__ = ["QUICK_SHARES", "SHARES", "Compared", "Measured", "compare", "fit", "measure"]

CONNECTIONS, OVERLOAD_CONNECTIONS = 768, 2048
BATCH_ROWS, QUEUE_ROWS = 32, 128
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.3, 1.6, 2.5)
"""Of the throughput with 64 clients; those at odd places are held out."""
QUICK_SHARES = (0.2, 0.4, 0.6, 0.8, 1.6)
"""For a quick run: too few to fit well."""
SETTLE_SECONDS = 0.5
CONTAINER_SECONDS = 4.0
"""Assumed: from a pod's creation to its process, and from readiness to its first request; the image is on the node."""
LEAST, MOST = [1e-5, 0.01, 1e-5, 1e-5, 1e-6], [0.05, 0.5, 0.05, 0.05, 0.001]
"""Bounds of the fit: fixed, noise, offset, tail, http_row."""
Floats = npt.NDArray[np.float64]
Point = dict[str, float]


class Compared(TypedDict):
    """A point of the curve at one rate of requests: the measured figures and the model's figures."""

    held_out: bool
    rate: float
    measured: Point
    modelled: Point


@dataclass(frozen=True, slots=True)
class Measured:
    """Points of the curve by place in the shares; ``full`` is the point of 64 clients without a pause."""

    points: list[Point]
    full: Point
    max_batch: int
    start_seconds: float


def measure(*, rounds: int, seconds: float, console: Console, shares: Sequence[float] = SHARES) -> Measured:
    """Serve the small CNN with all guards, and load it at rising rates; medians over the rounds."""
    limits = {"max_batch_rows": BATCH_ROWS, "max_queue_rows": QUEUE_ROWS, "max_rows_per_request": BATCH_ROWS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = gateway("guarded", GUARDS, folder, server=limits)
        began = time.monotonic()
        with running(stack, folder) as server:
            started = time.monotonic() - began
            load = next(load for load in loads() if load.clients == 64)  # noqa: PLR2004
            check(server)
            chosen = server.batch_rows
            assert chosen is not None  # noqa: S101 - the server says what it has chosen before it is ready
            wrk(server, load, seconds)
            closed: list[Point] = []
            opened: list[list[Point]] = []
            for turn in range(rounds):
                closed.append(_point(server, load, seconds, (0.0, 0.0)))
                most = statistics.median(point["rate"] for point in closed)
                opened.append([])
                for share in shares:
                    console.print(f"round {turn + 1}/{rounds}: {share:.0%} of {most:.0f} rows/s", highlight=False)
                    time.sleep(SETTLE_SECONDS)
                    opened[-1].append(_point(server, load, seconds, (share * most, most)))
    return Measured([_median(points) for points in zip(*opened, strict=True)], _median(closed), chosen, started)


def _point(server: Server, load: Load, seconds: float, rates: tuple[float, float]) -> Point:
    """Load the server at a share of its highest rate, or, if 0, with clients that never pause; read its metrics."""
    rate, most = rates
    before = _scrape(server.port)
    clients = load.clients if rate == 0 else CONNECTIONS if rate < most else OVERLOAD_CONNECTIONS
    pause = {"SEED": "1", "THINK_MS": str(1e3 * clients / rate if rate else 0.0)}
    client = wrk_counts(start_wrk(server, replace(load, clients=clients), seconds, script="think.lua", settings=pause))
    grown = {name: figure - before.get(name, 0.0) for name, figure in _scrape(server.port).items()}
    spent, sent = client["seconds"], max(1.0, client["requests"])

    def total(part: str) -> float:
        return sum(figure for name, figure in grown.items() if name.startswith(part))

    return {
        "rate": sent / spent,
        "rows_per_second": (sent - client["not_2xx"]) / spent,
        "p50_ms": client["p50_ms"],
        "p99_ms": client["p99_ms"],
        # By Little's law, from the server's own clocks: both are means over the whole time.
        "inflight": total('guardhouse_request_duration_seconds_sum{route="/v1/models/') / spent,
        "queue_rows": total('guardhouse_stage_duration_seconds_sum{stage="queue"}') / spent,
        "batch_rows": total("guardhouse_batch_rows_sum") / max(1.0, total("guardhouse_batch_rows_count")),
        "busy_ratio": total("guardhouse_device_busy_seconds_total") / spent,
        "cpu_cores": total("process_cpu_seconds_total") / spent,
        "shed_share": client["not_2xx"] / sent,
    }


def _scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(figure) for name, _, figure in pairs}


def _median(points: Sequence[Point]) -> Point:
    return {key: statistics.median(point[key] for point in points) for key in points[0]}


def fit(measured: Measured) -> Replica:
    """Fit the queue to p50, p99 and queue below saturation, with the throughput of 64 clients as it was measured.

    Five figures come apart from it: what a batch and a row cost the device and the processor, from their counters, and
    what a refusal costs, from the throughput beyond saturation.
    """
    points = measured.points[0::2]
    below = [point for point in points if point["rate"] < 0.97 * measured.full["rate"]]
    everywhere = [*points, measured.full]
    served = np.array([point["rows_per_second"] for point in everywhere])
    work = np.stack([served / [point["batch_rows"] for point in everywhere], served], axis=1)
    spent = {key: np.array([point[key] for point in everywhere]) for key in ("busy_ratio", "cpu_cores")}
    (device_fixed, device_per_row), (cpu_batch, cpu_row) = (nnls(work, each)[0].tolist() for each in spent.values())

    def replica(logs: Floats, refusal: float = 0.0) -> Replica:
        fixed, noise, offset, tail, http_row = np.exp(logs).tolist()
        per_row = max(LEAST[0], 1 / measured.full["rows_per_second"] - fixed / measured.full["batch_rows"])
        return Replica(
            "CPU (measured)", fixed, per_row, measured.max_batch, QUEUE_ROWS, noise, offset, tail, http_row,
            device_fixed, device_per_row, cpu_batch, cpu_row, refusal=refusal,
            start=CONTAINER_SECONDS + measured.start_seconds,
        )  # fmt: skip

    def faults(logs: Floats) -> list[float]:
        trial = replica(logs)
        wrong = []
        for point in below:
            solved = steady(trial, point["rate"])
            wrong += [math.log(1e3 * quantile(solved.delay, q) / point[f"p{100 * q:.0f}_ms"]) for q in (0.5, 0.99)]
            wrong.append(math.log(solved.queue / max(point["queue_rows"], 1e-3)) / 2)
        return wrong

    first = np.log([1e-3, 0.2, 1e-3, 1e-3, 1e-4])
    found = least_squares(
        faults, first, bounds=(np.log(LEAST), np.log(MOST)), loss="soft_l1", f_scale=0.3, diff_step=0.02
    )
    fitted = replica(found.x)
    refused = np.array([point["rate"] - point["rows_per_second"] for point in points if point["shed_share"] > 0])
    slower = np.array([1 - p["rows_per_second"] / fitted.capacity for p in points if p["shed_share"] > 0])
    refusal = float(refused @ slower / max(1.0, refused @ refused))
    return replica(found.x, min(max(0.0, refusal), fitted.per_row))  # by least squares; no dearer than an answer


def compare(replica: Replica, measured: Measured) -> list[Compared]:
    """Compare measured figures with the model's, rate by rate, and mark the rates that were held out."""
    tables = Curve(replica)
    return [
        {"held_out": bool(place % 2), "rate": row["rate"], "measured": row, "modelled": tables.figures(row["rate"])}
        for place, row in enumerate(measured.points)
    ]
