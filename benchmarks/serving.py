"""Throughput, latency and processor time of the gateway beside what it stands on and what else there is.

In every round all stacks are started, and then each load goes to every stack in turn (wrk, Debian package `wrk`), so
that figures that are compared are seconds apart. Ratios are taken round by round. Rows per core-second, and processor
time a request by role of process, say the same on a busy machine as on a quiet one.
"""

import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks.harness.checkout import unpack
from benchmarks.harness.load import Load, check, loads, need_wrk, wrk
from benchmarks.harness.loop import Loop, looping
from benchmarks.harness.measure import Figures, measure, medians
from benchmarks.harness.other_servers import installed_others
from benchmarks.harness.ratios import Spread, ratios
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.servers import GUARDS, Server, Stack, gateway, running

OURS, UNGUARDED, BEFORE, ON, OFF = "guarded", "unguarded", "before", "monitors and store on", "monitors and store off"
LOOP = "model in a loop"
MONITORS = [{"name": "drift", "kind": "sequential"}, {"name": "streams", "kind": "bins"}]
RATIOS = {
    "rows_per_second": "rows/s",
    "rows_per_core_second": "rows/core-s",
    "cpu_us_per_request": "CPU",
    "p50_ms": "p50",
    "p99_ms": "p99",
}
"""The figures whose ratios are given: the first two are better if above 1, the others if below."""
LOOP_RATIOS = ("rows_per_second", "rows_per_core_second")
"""The loop answers no request: it has no latency."""
ROUNDS, SECONDS, WARM_UP_SECONDS, TRIALS = 5, 5.0, 1.0, 15
QUICK_SECONDS, QUICK_TRIALS, QUICK_CLIENTS = 1.0, 2, (8, 16)
Round = dict[str, dict[str, Figures]]
"""Figures by load and by stack."""


def main(
    *, quick: bool, before: str | None = None, stacks: Sequence[str] | None = None, rounds: int | None = None
) -> None:
    """Measure, print tables and the JSON document; ``before`` is a commit whose server takes its turn, too."""
    need_wrk()
    rounds = rounds or (1 if quick else ROUNDS)
    seconds = QUICK_SECONDS if quick else SECONDS
    sent = [load for load in loads() if not quick or load.clients in QUICK_CLIENTS]
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name, looping(QUICK_TRIALS if quick else TRIALS) as loop:
        folder = Path(name)
        chosen = _stacks(folder, before, stacks, console, quick=quick)
        measured: list[Round] = []
        batch_rows: list[dict[str, int | None]] = []
        for number in range(rounds):
            with ExitStack() as stopping:
                servers = [stopping.enter_context(running(stack, folder)) for stack in chosen]
                batch_rows.append({server.stack.name: server.batch_rows for server in servers})
                console.print(f"round {number + 1}/{rounds}; batch rows chosen at start: {batch_rows[-1]}")
                measured.append(_round(servers[:: -1 if number % 2 else 1], sent, loop, seconds))
    found = {load.name: _compared(load.name, [stack.name for stack in chosen], measured) for load in sent}
    for name, (figures, beside) in found.items():
        print_table(f"{name}: medians over the rounds", {stack: _row(each) for stack, each in figures.items()})
        print_table(f"{name}: side by side, round by round: median [least, greatest] of {rounds}", _ratio_rows(beside))
    print_document(
        "serving", quick=quick, rounds=rounds, seconds=seconds, before=before, batch_rows=batch_rows,
        loop={"batch_rows": loop.batch_rows, "rows_per_core_second": loop.by_size},
        loads={name: {"medians": figures, "ratios": beside} for name, (figures, beside) in found.items()},
        measured=measured,
    )  # fmt: skip


def _stacks(
    folder: Path, before: str | None, wanted: Sequence[str] | None, console: Console, *, quick: bool
) -> list[Stack]:
    """Fit the gateways that are wanted, and find the other stacks. Leave if there is no stack of a name."""
    makers: dict[str, Callable[[str], Stack]] = {
        OURS: lambda name: gateway(name, GUARDS, folder),
        UNGUARDED: lambda name: gateway(name, [], folder),
        ON: lambda name: gateway(name, GUARDS, folder, monitors=MONITORS),
        OFF: lambda name: gateway(name, GUARDS, folder, store={"enabled": False}),
    }
    if before is not None:
        makers[BEFORE] = lambda name: gateway(name, GUARDS, folder, root=unpack(before, folder))
    others = {stack.name: stack for stack in installed_others(console)}
    names = list(wanted or [name for name in [*makers, *others] if not quick or name not in (ON, OFF)])
    unknown = [name for name in names if name not in makers and name not in others]
    if unknown:
        sys.exit(f"there is no stack {unknown[0]!r}; there are {', '.join([*makers, *others])}")
    return [makers[name](name) if name in makers else others[name] for name in names]


def _round(servers: Sequence[Server], sent: Sequence[Load], loop: Loop, seconds: float) -> Round:
    """Send each load to every server in turn, and let the loop take its turn."""
    found: Round = {}
    for server in servers:
        check(server)
    for load in sent:
        figures = found[load.name] = {}
        for server in servers:
            if load.suits(server.stack):
                wrk(server, load, WARM_UP_SECONDS)
                figures[server.stack.name] = measure(server, load, seconds)
        figures[LOOP] = _loop(loop, seconds)
    return found


def _loop(loop: Loop, seconds: float) -> Figures:
    rates = loop.measure(seconds / 2)
    return Figures(
        rows_per_second=rates["rows_per_second"],
        p50_ms=math.nan,
        p99_ms=math.nan,
        rows_per_core_second=rates["rows_per_core_second"],
        cpu_us_per_request=1e6 / rates["rows_per_core_second"],
        failed_share=0.0,
    )


def _compared(
    load: str, names: Sequence[str], measured: Sequence[Round]
) -> tuple[dict[str, Figures], dict[str, dict[str, Spread]]]:
    """Return the medians of every stack that took a load, and the ratios between stacks."""
    rounds = {name: [each[load][name] for each in measured] for name in [*names, LOOP] if name in measured[0][load]}
    pairs = [(OURS, name) for name in rounds if name not in (OURS, ON, OFF)] + [(ON, OFF)]
    beside = {
        f"{ours} / {other}": _ratios(rounds[ours], rounds[other], LOOP_RATIOS if other == LOOP else tuple(RATIOS))
        for ours, other in pairs
        if ours in rounds and other in rounds
    }
    return {name: medians(each) for name, each in rounds.items()}, beside


def _ratios(ours: Sequence[Figures], other: Sequence[Figures], keys: Sequence[str]) -> dict[str, Spread]:
    return {key: ratios([getattr(each, key) for each in ours], [getattr(each, key) for each in other]) for key in keys}


def _ratio_rows(beside: dict[str, dict[str, Spread]]) -> dict[str, dict[str, str]]:
    return {pair: {RATIOS[key]: str(each) for key, each in found.items()} for pair, found in beside.items()}


def _row(figures: Figures) -> dict[str, object]:
    roles = ", ".join(f"{role} {spent:.0f}" for role, spent in figures.roles.items() if round(spent))
    return {
        "rows/s": figures.rows_per_second,
        "p50 ms": figures.p50_ms,
        "p99 ms": figures.p99_ms,
        "rows/core-s": figures.rows_per_core_second,
        "CPU us/request": figures.cpu_us_per_request,
        "by role": roles,
        "failed": f"{figures.failed_share:.1%}",
    }
