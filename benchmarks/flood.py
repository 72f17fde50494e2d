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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, check, loads, need_wrk, wrk
from benchmarks.machine import describe
from benchmarks.servers import GUARDS, STACKS, Stack, gateway, running

CLIENTS, FLOODING = (1, 4), 20
"""One client leaves the machine half idle, four are as many as two cores can serve: then explanations wait."""
EXPLAIN = {"rate": 1e6, "burst": 10**6, "max_queue": 64, "cache_bytes": 0}
ROUTE = "/v1/models/bench:explain"
FIGURES = {"requests_per_second": "throughput", "p50_ms": "p50", "p99_ms": "p99"}


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    need_wrk()
    rounds, seconds = (1, 2.0) if quick else (7, 5.0)
    console = Console(stderr=True)
    table = Table(title=f"predictions beside {FLOODING} clients who explain, as ratios to predictions alone")
    for column in ("clients", "", *FIGURES.values(), "explanations/s"):
        table.add_column(column, justify="left" if not column else "right")
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = gateway("guarded", GUARDS, folder, explain=EXPLAIN)
        single = next(load for load in loads() if load.clients == 1 and load.header_length is None)
        with running(stack, folder) as port:
            check(stack, single, port)
            _answer(port, single.body)
            for clients in CLIENTS:
                load = replace(single, clients=clients)
                counting = _rounds(console, clients, rounds)
                measured = [_round(stack, load, port, seconds, folder) for _ in counting]
                cases[str(clients)] = _compare(measured)
                _rows(table, clients, cases[str(clients)])
    console.print(table)
    print(json.dumps({
        "benchmark": "flood", "machine": describe(), "rounds": rounds, "seconds": seconds, "flooding": FLOODING,
        "clients": cases,
    }))  # fmt: skip


def _rounds(console: Console, clients: int, rounds: int) -> Iterator[int]:
    """Count rounds aloud."""
    for number in range(rounds):
        console.print(f"{clients} clients, round {number + 1}/{rounds}", highlight=False)
        yield number


def _round(stack: Stack, load: Load, port: int, seconds: float, folder: Path) -> dict[str, dict[str, float]]:
    result = {case: _measure(wrk(stack, load, port, seconds, folder)) for case in ("alone", "again")}
    body = folder / "explained"
    body.write_bytes(load.body)
    flood = _flood(port, body, seconds + 1)
    time.sleep(0.5)
    result["beside"] = _measure(wrk(stack, load, port, seconds, folder))
    done = _finish(flood)
    _answer(port, load.body)  # it comes last: those that the flood left behind are answered by then
    result["beside"]["explanations_per_second"] = (done["requests"] - done["not_2xx"]) / done["seconds"]
    return result


def _compare(measured: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    ratios = {
        case: {figure: [each[case][figure] / each["alone"][figure] for each in measured] for figure in FIGURES}
        for case in ("again", "beside")
    }
    rate = statistics.median(each["beside"]["explanations_per_second"] for each in measured)
    return {"ratios_to_alone": ratios, "explanations_per_second": rate, "measured": measured}


def _rows(table: Table, clients: int, compared: dict[str, Any]) -> None:
    for case, title in (("again", "alone, again"), ("beside", "beside the flood")):
        each = compared["ratios_to_alone"][case].values()
        spread = [(statistics.median(values), min(values), max(values)) for values in each]
        cells = [f"{middle:.2f} [{low:.2f}, {high:.2f}]" for middle, low, high in spread]
        rate = f"{compared['explanations_per_second']:.1f}" if case == "beside" else ""
        table.add_row(str(clients), title, *cells, rate)


def _answer(port: int, body: bytes) -> None:
    """Wait for an explanation, and so for the process that explains, which the first question starts."""
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
