"""What the store costs: predictions with the store and without, side by side, and rows a second into SQLite alone."""

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import orjson
from rich.console import Console

from benchmarks.harness.load import Load, check, loads, need_wrk, wrk
from benchmarks.harness.measure import Figures, measure
from benchmarks.harness.ratios import Spread, ratios
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.servers import GUARDS, Server, gateway, running
from guards.config.store import StoreConfig
from guards.monitors.answered_rows import Records
from service.front.protocols.feedback import MAX_OUTCOMES, decode, encode
from service.messages.answer import Answer
from service.monitoring.sums import Tallies
from service.store.local_store import LocalStore, StoreSettings
from service.store.remote_store import RemoteStore
from service.store.rows import Answered
from service.store.served_versions import Edition
from service.store.store_client import StoreClient

CLASSES = ("no", "yes")
BATCH_ROWS, BATCH_ROWS_SERVED = 64, 4
CLIENTS = (8, 16)
ROUNDS, SECONDS, BODIES, WARM_UP_SECONDS = 5, 5.0, 20, 1.0
QUICK_SECONDS, QUICK_BODIES = 1.0, 2
STORED, NOT_STORED = "stored", "not stored"
OWN_PROCESS, THIS_PROCESS = "in its own process", "in the engine's process"
LIMITS = StoreConfig(retention_days=1e6)  # the rows are of the year 1970
EDITION = Edition("bench", "1", "", {"m": ""}, CLASSES, thresholds={"a": 0.01, "b": 0.01})
SETTINGS = StoreSettings(EDITION, LIMITS, max_jobs=1, keep_jobs_seconds=1)
RATIOS = {"rows_per_second": "rows/s", "rows_per_core_second": "rows/core-s", "p99_ms": "p99"}
Round = dict[str, dict[str, Figures]]
"""Figures by load and by stack."""


def main(*, quick: bool, rounds: int | None = None) -> None:
    """Measure, print tables and the JSON document."""
    need_wrk()
    rounds = rounds or (1 if quick else ROUNDS)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = _beside(
            folder, rounds, QUICK_SECONDS if quick else SECONDS, CLIENTS[:1] if quick else CLIENTS, console
        )
        direct = {
            name: _directly(store, QUICK_BODIES if quick else BODIES)
            for name, store in (
                (OWN_PROCESS, RemoteStore(folder / "socket", f"sqlite:///{folder / 'there.db'}", SETTINGS)),
                (THIS_PROCESS, LocalStore.open(f"sqlite:///{folder / 'here.db'}", SETTINGS)),
            )
        }
    beside = {load: _ratios([each[load] for each in measured]) for load in measured[0]}
    print_table(
        f"stored / not stored, round by round: median [least, greatest] of {rounds}",
        {load: {RATIOS[key]: str(each) for key, each in row.items()} for load, row in beside.items()},
    )
    keys = direct[OWN_PROCESS]
    print_table(
        "the store alone, SQLite",
        {key.replace("_", " "): {name: found[key] for name, found in direct.items()} for key in keys},
    )
    print_document("store", quick=quick, rounds=rounds, ratios=beside, measured=measured, alone=direct)


def _beside(folder: Path, rounds: int, seconds: float, clients: Sequence[int], console: Console) -> list[Round]:
    """Load the same gateway with the store and without, in turn.

    Both run batches of one size: each start would choose its own by measurement, and differ by that.
    """
    limits = {"max_batch_rows": BATCH_ROWS_SERVED}
    stacks = [
        gateway(name, GUARDS, folder, server=limits, store={"enabled": enabled})
        for name, enabled in ((STORED, True), (NOT_STORED, False))
    ]
    sent = [load for load in loads() if load.clients in clients]
    measured = []
    for number in range(rounds):
        console.print(f"round {number + 1}/{rounds}", highlight=False)
        with ExitStack() as stopping:
            servers = [stopping.enter_context(running(stack, folder)) for stack in stacks]
            measured.append(_round(servers[:: -1 if number % 2 else 1], sent, seconds))
    return measured


def _round(servers: Sequence[Server], sent: Sequence[Load], seconds: float) -> Round:
    found: Round = {}
    for server in servers:
        check(server)
    for load in sent:
        figures = found[load.name] = {}
        for server in servers:
            wrk(server, load, WARM_UP_SECONDS)
            figures[server.stack.name] = measure(server, load, seconds)
    return found


def _ratios(measured: Sequence[dict[str, Figures]]) -> dict[str, Spread]:
    return {
        key: ratios(
            [getattr(each[STORED], key) for each in measured], [getattr(each[NOT_STORED], key) for each in measured]
        )
        for key in RATIOS
    }


def _directly(store: StoreClient, bodies: int) -> dict[str, float]:
    """Write predictions, then join their outcomes body by body, decoded and encoded as over HTTP; no server.

    The engine's microseconds are processor time of the asking thread, which holds the engine's interpreter lock for a
    part of them.
    """
    store.prepare()
    rng = np.random.default_rng(1)
    ids = [f"{rng.integers(2**63):016x}-{i}" for i in range(bodies * MAX_OUTCOMES)]
    noting, asking, writing = 0.0, 0.0, time.perf_counter()
    for start in range(0, len(ids), 4096):
        batches = []
        for first in range(start, min(start + 4096, len(ids)), BATCH_ROWS):
            names = ids[first : first + BATCH_ROWS]
            answer = _answer(rng, len(names))
            began = time.perf_counter()
            batches.append(Answered.of(names, 0.0, answer, {"sex": answer.action}))
            noting += time.perf_counter() - began
        began = time.thread_time()
        store.write(batches, _tally)
        asking += time.thread_time() - began
    writing = time.perf_counter() - writing
    order = rng.permutation(len(ids)).tolist()
    sent = [
        orjson.dumps({"outcomes": [{"id": ids[i], "label": "yes"} for i in order[start : start + MAX_OUTCOMES]]})
        for start in range(0, len(ids), MAX_OUTCOMES)
    ]
    learning, joining = 0.0, time.perf_counter()
    for body in sent:
        truths = decode(body, CLASSES)
        began = time.thread_time()
        verdict = store.join(truths, _tally)
        learning += time.thread_time() - began
        encode(verdict, truths)
        if len(verdict.accepted) != len(truths):
            sys.exit("an outcome was not accepted: the figure would mean nothing")
    joining = time.perf_counter() - joining
    store.close()
    return {
        "outcomes_per_second": len(ids) / joining,
        "predictions_per_second": len(ids) / writing,
        "device_thread_microseconds_per_row": 1e6 * noting / len(ids),
        "engine_microseconds_per_stored_row": 1e6 * asking / len(ids),
        "engine_microseconds_per_outcome": 1e6 * learning / len(ids),
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
