"""Throughput and latency of the gateway beside what it stands on and what else there is, interleaved in one run.

Every round starts each stack in turn on the same cores and loads it with wrk (Debian package `wrk`), so that the
machine's moods hit all of them; figures are ratios within a round, given as median, minimum and maximum over rounds.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, check, loads, need_wrk, wrk
from benchmarks.machine import describe
from benchmarks.servers import GUARDS, ROOT, Stack, bare, gateway, mlserver, running

OTHERS = ("unguarded", "bare BentoML", "MLServer")


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    need_wrk()
    rounds, seconds = (1, 1.0) if quick else (3, 5.0)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        stacks = [gateway(name, guards, Path(folder)) for name, guards in (("guarded", GUARDS), ("unguarded", []))]
        stacks += [stack for stack in (bare(), mlserver()) if stack is not None]
        if stacks[-1].name != "MLServer":
            console.print("MLServer is left out: it is not installed (make bench-mlserver)")
        measured: list[dict[str, dict[str, float]]] = []
        ceilings: list[float] = []
        for round_number in range(rounds):
            results: dict[str, dict[str, float]] = {}
            for stack in stacks:
                with running(stack, Path(folder)) as port:
                    check(stack, loads()[0], port)
                    for load in loads():
                        if load.header_length is not None and stack.binary_path is None:
                            continue
                        console.print(f"round {round_number + 1}/{rounds}: {stack.name}, {load.name}", highlight=False)
                        results[f"{stack.name}, {load.name}"] = _measure(stack, load, port, seconds, Path(folder))
            loop = subprocess.run(
                [sys.executable, "-m", "benchmarks.stacks.loop", str(seconds / 4)],
                capture_output=True, check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            ceilings.append(max(json.loads(loop.stdout).values()))
            measured.append(results)
    document = {"machine": describe(), "rounds": rounds, "seconds": seconds, **_summary(measured, ceilings)}
    _show(document, console)
    print(json.dumps(document, indent=1))


def _measure(stack: Stack, load: Load, port: int, seconds: float, folder: Path) -> dict[str, float]:
    """Load a stack after a short warm-up; requests that failed are no rows."""
    wrk(stack, load, port, max(1.0, seconds / 4), folder)
    result = wrk(stack, load, port, seconds, folder)
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
        for other in OTHERS:
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
