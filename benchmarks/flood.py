"""How a flood of explanations slows predictions down: latency beside 20 clients who ask for one after another.

Every round measures predictions alone, alone again (which shows what chance does to the ratio), and beside the flood,
on the same server and cores. wrk (Debian package `wrk`) is both kinds of client. Answers are not cached.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from benchmarks.harness.load import Load, check, loads, need_wrk, start_wrk, wrk, wrk_counts
from benchmarks.harness.ratios import Spread, ratios
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.servers import GUARDS, Server, gateway, running

CLIENTS, FLOODING = (1, 4), 20
"""One client leaves the machine half idle, four are as many as two cores can serve: then explanations wait."""
EXPLAIN = {"rate": 1e6, "burst": 10**6, "max_queue": 64, "cache_bytes": 0}
ROUTE = "/v1/models/bench:explain"
ROUNDS, SECONDS, QUICK_SECONDS = 7, 5.0, 1.0
FIGURES = {"requests_per_second": "throughput", "p50_ms": "p50", "p99_ms": "p99"}


def main(*, quick: bool, rounds: int | None = None) -> None:
    """Measure, print a table and the JSON document."""
    need_wrk()
    rounds = rounds or (1 if quick else ROUNDS)
    seconds = QUICK_SECONDS if quick else SECONDS
    console = Console(stderr=True)
    cases: dict[str, Any] = {}
    rows: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = gateway("guarded", GUARDS, folder, explain=EXPLAIN)
        single = next(load for load in loads() if load.clients == 1 and load.header_length is None)
        with running(stack, folder) as server:
            check(server)
            _wait_for_explanation(server, single.body)
            for clients in CLIENTS:
                load = replace(single, clients=clients)
                measured = []
                for number in range(rounds):
                    console.print(f"{clients} clients, round {number + 1}/{rounds}", highlight=False)
                    measured.append(_round(server, load, seconds))
                compared = {case: _compare(measured, case) for case in ("again", "beside")}
                rate = statistics.median(each["beside"]["explanations_per_second"] for each in measured)
                rows[f"{clients} clients, alone again"] = _row(compared["again"])
                rows[f"{clients} clients, beside the flood"] = {**_row(compared["beside"]), "explanations/s": rate}
                cases[str(clients)] = {
                    "ratios_to_alone": compared, "explanations_per_second": rate, "measured": measured,
                }  # fmt: skip
    print_table(
        f"predictions beside {FLOODING} clients who explain / alone: median [least, greatest] of {rounds}", rows
    )
    print_document("flood", quick=quick, rounds=rounds, seconds=seconds, flooding=FLOODING, clients=cases)


def _round(server: Server, load: Load, seconds: float) -> dict[str, dict[str, float]]:
    result = {case: _measure(wrk(server, load, seconds)) for case in ("alone", "again")}
    flood = start_wrk(server, replace(load, clients=FLOODING), seconds + 1, path=ROUTE)
    time.sleep(0.5)
    result["beside"] = _measure(wrk(server, load, seconds))
    done = wrk_counts(flood)
    _wait_for_explanation(server, load.body)  # it comes last: those that the flood left behind are answered by then
    result["beside"]["explanations_per_second"] = (done["requests"] - done["not_2xx"]) / done["seconds"]
    return result


def _compare(measured: list[dict[str, dict[str, float]]], case: str) -> dict[str, Spread]:
    return {
        figure: ratios([each[case][figure] for each in measured], [each["alone"][figure] for each in measured])
        for figure in FIGURES
    }


def _row(compared: dict[str, Spread]) -> dict[str, object]:
    return {FIGURES[figure]: str(each) for figure, each in compared.items()}


def _wait_for_explanation(server: Server, body: bytes) -> None:
    """Ask until an explanation comes: the first question starts the process that explains. Leave if none comes."""
    for _ in range(5):
        answer = httpx.post(
            f"http://127.0.0.1:{server.port}{ROUTE}",
            content=body,
            headers={"content-type": "application/json"},
            timeout=60,
        )
        if answer.is_success:
            return
    sys.exit(f"there is no explanation: {answer.text}")


def _measure(counts: dict[str, float]) -> dict[str, float]:
    rate = counts["requests"] / counts["seconds"]
    return {"requests_per_second": rate, "p50_ms": counts["p50_ms"], "p99_ms": counts["p99_ms"]}
