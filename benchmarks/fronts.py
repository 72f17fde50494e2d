"""What a second front process brings: one front against two, with a model that costs next to nothing.

Processor time a request says the same on two cores as on many. Rows a second can only rise if there are cores for two
fronts, the engine and wrk.
"""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks.harness.load import Load, check, loads, need_wrk, wrk
from benchmarks.harness.measure import Figures, measure, medians
from benchmarks.harness.ratios import Spread, ratios
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.served_models import LINEAR
from benchmarks.harness.servers import Server, gateway, running

FRONTS = (1, 2)
CLIENTS = 64
ROUNDS, SECONDS, WARM_UP_SECONDS = 5, 5.0, 1.0
QUICK_SECONDS = 1.0
ROLES = ("front", "engine")
Round = dict[str, dict[int, Figures]]
"""Figures by load and by the number of fronts."""


def main(*, quick: bool, rounds: int | None = None) -> None:
    """Measure, print tables and the JSON document."""
    need_wrk()
    rounds = rounds or (1 if quick else ROUNDS)
    console = Console(stderr=True)
    sent = [load for load in loads(LINEAR) if load.clients == CLIENTS]
    measured: list[Round] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stacks = {
            count: gateway(
                f"fronts-{count}", [], folder, model=LINEAR, server={"fronts": count}, store={"enabled": False}
            )
            for count in FRONTS
        }
        for number in range(rounds):
            console.print(f"round {number + 1}/{rounds}", highlight=False)
            with ExitStack() as stopping:
                servers = {count: stopping.enter_context(running(stack, folder)) for count, stack in stacks.items()}
                measured.append(_round(servers, sent, QUICK_SECONDS if quick else SECONDS, number))
    found = {load.name: _compared([each[load.name] for each in measured]) for load in sent}
    figures = {
        load.name: {count: medians([each[load.name][count] for each in measured]) for count in FRONTS} for load in sent
    }
    for load in sent:
        print_table(
            f"{load.name}: medians", {f"{count} fronts": _row(each) for count, each in figures[load.name].items()}
        )
    print_table(
        f"two fronts / one, round by round: median [least, greatest] of {rounds}",
        {name: {key: str(each) for key, each in row.items()} for name, row in found.items()},
    )
    print_document("fronts", quick=quick, rounds=rounds, medians=figures, ratios=found, measured=measured)


def _round(servers: dict[int, Server], sent: Sequence[Load], seconds: float, number: int) -> Round:
    """Send each load to each server in turn; the order is reversed from round to round."""
    found: Round = {}
    for load in sent:
        figures = found[load.name] = {}
        for count, server in list(servers.items())[:: -1 if number % 2 else 1]:
            check(server, LINEAR)
            wrk(server, load, WARM_UP_SECONDS)
            figures[count] = measure(server, load, seconds)
            if missing := set(ROLES) - figures[count].roles.keys():
                sys.exit(f"the server has no process of the role {missing.pop()!r}: {', '.join(figures[count].roles)}")
    return found


def _compared(measured: Sequence[dict[int, Figures]]) -> dict[str, Spread]:
    """Divide what two fronts showed by what one showed."""
    one, two = ([each[count] for each in measured] for count in FRONTS)
    found = {
        "rows/s": ratios([each.rows_per_second for each in two], [each.rows_per_second for each in one]),
        "CPU a request": ratios([each.cpu_us_per_request for each in two], [each.cpu_us_per_request for each in one]),
        "p99": ratios([each.p99_ms for each in two], [each.p99_ms for each in one]),
    }
    for role in ROLES:
        spent = [[each.roles[role] for each in rounds] for rounds in (two, one)]
        found[f"CPU a request, {role}"] = ratios(*spent)
    return found


def _row(figures: Figures) -> dict[str, object]:
    return {
        "rows/s": figures.rows_per_second,
        "p50 ms": figures.p50_ms,
        "p99 ms": figures.p99_ms,
        "rows/core-s": figures.rows_per_core_second,
        **{f"{role}, CPU us a request": spent for role, spent in figures.roles.items()},
    }
