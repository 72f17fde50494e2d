"""What is answered, refused and lost while more requests come than the server can answer.

The server's capacity is measured first, by clients who wait for their answers. Then requests come in an open loop
(:mod:`benchmarks.harness.open_loop`) at half the capacity, the capacity itself, three times and ten times as much, and
at half the capacity again. A client gives a request up after five seconds. On a machine of two cores the client takes
one of them, so that ten times the capacity is what the client can send, as the table says.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness.load import Load, check, loads
from benchmarks.harness.open_loop import Answers, Plan, play
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.servers import GUARDS, Server, gateway, running

FACTORS = (0.5, 1.0, 3.0, 10.0, 0.5)
SECONDS, QUICK_SECONDS = 8.0, 1.0
CONNECTIONS, QUICK_CONNECTIONS = 1000, 100
OK, REFUSED = 200, (429, 503)


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    console = Console(stderr=True)
    seconds = QUICK_SECONDS if quick else SECONDS
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = gateway("guarded", GUARDS, folder)
        several = next(load for load in loads() if load.rows > 1)
        single = [load for load in loads() if load.rows == 1 and load.header_length is None][-1]
        for load in (single, several):
            with running(stack, folder) as server:
                check(server)
                case = f"{load.rows} rows"
                console.print(f"{case}: the capacity", highlight=False)
                request = _request(server, load)
                closed = Plan(server.port, request, load.clients, closed_seconds=seconds)
                play(closed)  # the first answers find code and memory cold
                capacity = _rate(play(closed), seconds)
                console.print(f"{case}: {capacity:.0f} requests/s; phases of {seconds:g} s", highlight=False)
                phases = [(factor * capacity, seconds) for factor in FACTORS]
                connections = QUICK_CONNECTIONS if quick else CONNECTIONS
                answers = play(Plan(server.port, request, connections, phases))
                cases[case] = {"capacity": capacity, "phases": _phases(answers, seconds, capacity)}
            print_table(f"{case}: capacity {capacity:.0f} requests/s", {
                f"{number}: {factor:g} x": row
                for number, (factor, row) in enumerate(zip(FACTORS, cases[case]["phases"], strict=True), 1)
            })  # fmt: skip
    print_document("overload", quick=quick, seconds=seconds, connections=connections, cases=cases)


def _request(server: Server, load: Load) -> str:
    path = server.stack.path if load.header_length is None else str(server.stack.binary_path)
    more = "" if load.header_length is None else f"Inference-Header-Content-Length: {load.header_length}\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {load.content_type}\r\n{more}"
        f"Content-Length: {len(load.body)}\r\n\r\n"
    )
    return head + load.body.decode("latin-1")


def _rate(answers: Answers, seconds: float) -> float:
    return float((answers.code == OK).sum() / seconds)


def _phases(answers: Answers, seconds: float, capacity: float) -> list[dict[str, float | str]]:
    """Describe each phase; ``recovered`` is when the last request of a phase that was not answered with 200 was due."""
    rows: list[dict[str, float | str]] = []
    for number in range(len(FACTORS)):
        phase = answers.between(number * seconds, (number + 1) * seconds)
        good, refused = phase.code == OK, np.isin(phase.code, REFUSED)
        bad = phase.due[~good]
        rows.append({
            "offered": len(phase.code) / seconds / capacity,
            "goodput": float(good.sum() / seconds / capacity),
            "refused": float(refused.mean()),
            "no answer": float((phase.code == 0).mean()),
            "other codes": " ".join(map(str, sorted({*phase.code.tolist()} - {0, OK, *REFUSED}))),
            "p50 ms": _percentile(phase.seconds[good], 50),
            "p99 ms": _percentile(phase.seconds[good], 99),
            "own p99 ms": _percentile(phase.own_seconds[good], 99),
            "refused p50 ms": _percentile(phase.seconds[refused], 50),
            "refused p99 ms": _percentile(phase.seconds[refused], 99),
            "recovered": float(bad.max() - number * seconds) if bad.size else 0.0,
        })  # fmt: skip
    return rows


def _percentile(seconds: np.ndarray[Any, np.dtype[np.float64]], percent: float) -> float:
    return float(np.percentile(seconds, percent) * 1000) if seconds.size else float("nan")
