"""What predictions notice of a flood of explanations: latency beside 20 clients who ask for one after another.

Rounds alternate between predictions alone, alone again (what chance does to the ratio), and beside the flood, on the
same server and cores; wrk (Debian package `wrk`) is both kinds of client. Answers are not cached.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.load import check, loads, need_wrk, wrk
from benchmarks.machine import describe
from benchmarks.servers import GUARDS, STACKS, gateway, running

CLIENTS, FLOODING = 4, 20
EXPLAIN = {"rate": 1e6, "burst": 10**6, "max_queue": 64, "cache_bytes": 0}
ROUTE = "/v1/models/bench:explain"
FIGURES = {"requests_per_second": "throughput", "p50_ms": "p50", "p99_ms": "p99"}


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    need_wrk()
    rounds, seconds = (2, 1.0) if quick else (9, 5.0)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = gateway("guarded", GUARDS, folder, explain=EXPLAIN)
        load = next(load for load in loads() if load.clients == 1 and load.header_length is None)
        load = type(load)(**{**vars(load), "clients": CLIENTS})
        body = folder / "explained"
        body.write_bytes(load.body)
        measured: list[dict[str, dict[str, float]]] = []
        with running(stack, folder) as port:
            check(stack, load, port)
            _first_answer(port, load.body)
            for number in range(rounds):
                console.print(f"round {number + 1}/{rounds}", highlight=False)
                result = {case: _measure(wrk(stack, load, port, seconds, folder)) for case in ("alone", "again")}
                flood = _flood(port, body, seconds + 1)
                time.sleep(0.5)
                result["beside"] = _measure(wrk(stack, load, port, seconds, folder))
                done = _finish(flood)
                result["beside"]["explanations_per_second"] = (done["requests"] - done["not_2xx"]) / done["seconds"]
                measured.append(result)
    ratios = {
        case: {figure: [each[case][figure] / each["alone"][figure] for each in measured] for figure in FIGURES}
        for case in ("again", "beside")
    }
    rate = statistics.median(each["beside"]["explanations_per_second"] for each in measured)
    _show(ratios, rate, console)
    print(json.dumps({
        "benchmark": "flood", "machine": describe(), "rounds": rounds, "seconds": seconds, "clients": CLIENTS,
        "flooding": FLOODING, "explanations_per_second": rate, "ratios_to_alone": ratios, "measured": measured,
    }))  # fmt: skip


def _first_answer(port: int, body: bytes) -> None:
    """Wait for the process that explains, which the first question starts."""
    for _ in range(5):
        answer = httpx.post(
            f"http://127.0.0.1:{port}{ROUTE}", content=body, headers={"content-type": "application/json"}, timeout=60
        )
        if answer.is_success:
            return
    sys.exit(f"there is no explanation: {answer.text}")


def _measure(counts: dict[str, float]) -> dict[str, float]:
    rate = counts["requests"] / counts["seconds"]
    return {"requests_per_second": rate, "p50_ms": counts["p50_ms"], "p99_ms": counts["p99_ms"]}


def _flood(port: int, body: Path, seconds: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "BODY": str(body), "CONTENT_TYPE": "application/json"}
    return subprocess.Popen(
        ["wrk", "-t1", f"-c{FLOODING}", f"-d{round(seconds)}s", "--timeout", "30s",
         "-s", str(STACKS / "post.lua"), f"http://127.0.0.1:{port}{ROUTE}"],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _finish(flood: subprocess.Popen[str]) -> dict[str, float]:
    said, _ = flood.communicate()
    counts: dict[str, float] = json.loads(said.partition("JSON")[2])
    return counts


def _show(ratios: dict[str, dict[str, list[float]]], rate: float, console: Console) -> None:
    table = Table(title=f"predictions of {CLIENTS} clients beside {FLOODING} who explain ({rate:.0f} answers a second)")
    for column in ("ratio to predictions alone", *FIGURES.values()):
        table.add_column(column, justify="left" if column.startswith("ratio") else "right")
    for case, title in (("again", "alone, again"), ("beside", "beside the flood")):
        spread = [(statistics.median(values), min(values), max(values)) for values in ratios[case].values()]
        table.add_row(title, *(f"{middle:.2f} [{low:.2f}, {high:.2f}]" for middle, low, high in spread))
    console.print(table)
