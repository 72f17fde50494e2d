"""What remembering costs: predictions with the store and without, side by side, and outcomes a second into SQLite."""

import json
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import orjson
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.serving import Load, Stack, _loads, _running, _spread, _stacks, _wrk
from guards.records import Records
from service.answer import Answer
from service.columns import Answered, Block
from service.database import Database, parse_url
from service.editions import Edition
from service.monitoring import Tallies
from service.protocols.outcomes import MAX_OUTCOMES, decode, encode
from service.store import Store

CLASSES = ("no", "yes")
BATCH_ROWS, BATCH_ROWS_SERVED = 64, 4


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    if which("wrk") is None:
        sys.exit("the store benchmark needs wrk: apt-get install wrk")
    rounds, seconds, bodies = (1, 1.0, 4) if quick else (5, 5.0, 20)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ratios = _beside(folder, rounds, seconds, console)
        document = {"machine": describe(), "rounds": rounds, "seconds": seconds, "stored / not stored": ratios,
                    **_directly(folder, bodies)}  # fmt: skip
    grid = Table("figure", "value", title="the store, SQLite")
    for load, ratio in ratios.items():
        spread = f"{ratio['median']:.3f} ({ratio['minimum']:.3f} to {ratio['maximum']:.3f})"
        grid.add_row(f"stored / not stored, {load}", spread)
    for key in ("outcomes_per_second", "predictions_per_second", "device_thread_microseconds_per_row"):
        grid.add_row(key.replace("_", " "), f"{document[key]:.2f}")
    console.print(grid)
    print(json.dumps(document, indent=1))


def _beside(folder: Path, rounds: int, seconds: float, console: Console) -> dict[str, dict[str, float]]:
    """Load the same gateway with the store and without, in turn; give the ratios, round by round.

    Both run batches of one size: each start would choose its own by measurement, and differ by that. Rows for each
    second of the server's processor time say the same as rows a second, and are moved less by what else runs here.
    """
    fitted = _stacks(folder)[0]
    path = folder / "guarded.yaml"
    stacks: list[Stack] = []
    for name, enabled in (("stored", True), ("not stored", False)):
        config = yaml.safe_load(path.read_text())
        config |= {"store": {"enabled": enabled}, "server": {"max_batch_rows": BATCH_ROWS_SERVED}}
        changed = folder / f"{name.replace(' ', '-')}.yaml"
        changed.write_text(yaml.safe_dump(config))
        command = [str(changed) if part == str(path) else part for part in fitted.command]
        stacks.append(replace(fitted, name=name, command=command))
    loads = [load for load in _loads() if load.clients in (8, 16)]
    ratios: dict[str, list[float]] = {}
    for round_number in range(rounds):
        figures: dict[str, dict[str, float]] = {}
        for stack in stacks[:: 1 if round_number % 2 else -1]:
            console.print(f"round {round_number + 1}/{rounds}: {stack.name}", highlight=False)
            with _running(stack, folder) as port:
                figures[stack.name] = _rates(stack, loads, port, seconds, folder)
        for key, rate in figures["stored"].items():
            ratios.setdefault(key, []).append(rate / figures["not stored"][key])
    return {key: _spread(values) for key, values in ratios.items()}


def _rates(stack: Stack, loads: list[Load], port: int, seconds: float, folder: Path) -> dict[str, float]:
    rates: dict[str, float] = {}
    for load in loads:
        before = _counted(port)
        rates[f"{load.name}, rows a second"] = _wrk(stack, load, port, seconds, folder)["rows_per_second"]
        rows, processor = (now - then for now, then in zip(_counted(port), before, strict=True))
        rates[f"{load.name}, rows a processor second"] = rows / processor
    return rates


def _counted(port: int) -> tuple[float, float]:
    """Scrape the rows answered so far, and the processor time that the server took."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        samples = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    rows = sum(float(value) for name, _, value in samples if name.startswith("guardhouse_rows_total"))
    return rows, sum(float(value) for name, _, value in samples if name == "process_cpu_seconds_total")


def _directly(folder: Path, bodies: int) -> dict[str, float]:
    """Write predictions, then join their outcomes body by body, decoded and encoded as over HTTP; no server."""
    database = Database(parse_url(f"sqlite:///{folder / 'bench.db'}"))
    store = Store(database, Edition("bench", "1", "", {"m": ""}, CLASSES))
    rng = np.random.default_rng(1)
    ids = [f"{rng.integers(2**63):016x}-{i}" for i in range(bodies * MAX_OUTCOMES)]
    noting, writing = 0.0, time.perf_counter()
    for start in range(0, len(ids), 4096):
        batches = []
        for first in range(start, min(start + 4096, len(ids)), BATCH_ROWS):
            names = ids[first : first + BATCH_ROWS]
            answer = _answer(rng, len(names))
            began = time.perf_counter()
            batches.append(Answered.of(names, 0.0, answer, {"sex": answer.action}))
            noting += time.perf_counter() - began
        block = Block(batches, classes=CLASSES, guards=("a", "b"))
        store.write(block, _tally(block.records), _tally)
    writing = time.perf_counter() - writing
    order = rng.permutation(len(ids)).tolist()
    sent = [
        orjson.dumps({"outcomes": [{"id": ids[i], "label": "yes"} for i in order[start : start + MAX_OUTCOMES]]})
        for start in range(0, len(ids), MAX_OUTCOMES)
    ]
    joining = time.perf_counter()
    for body in sent:
        truths = decode(body, CLASSES)
        verdict = store.join(truths, _tally)
        encode(verdict, truths)
        if len(verdict.accepted) != len(truths):
            sys.exit("an outcome was not accepted: the figure would mean nothing")
    joining = time.perf_counter() - joining
    database.close()
    return {
        "outcomes_per_second": len(ids) / joining,
        "predictions_per_second": len(ids) / writing,
        "device_thread_microseconds_per_row": 1e6 * noting / len(ids),
    }


def _answer(rng: np.random.Generator, n: int) -> Answer:
    probabilities = rng.random((n, 2))
    return Answer(
        action=np.where(rng.random(n) < 0.01, 1, 0),  # noqa: PLR2004
        p_value=rng.random((n, 2)),
        flagged=rng.random((n, 2)) < 0.01,  # noqa: PLR2004
        violated=None,
        causes={},
        probabilities=probabilities,
        label=probabilities.argmax(1),
        members=probabilities > 0.5,  # noqa: PLR2004
        value=None,
        interval=None,
    )


def _tally(records: Records) -> Tallies:
    actual = 0 if records.actual is None else records.actual + 1
    return {"m": np.bincount(records.predicted % 3 * 3 + actual, minlength=9)}
