"""What an open page of the console costs: rows answered with the page open, and without it, in turn.

The page is played by a client that asks for what the page asks, as often as the page does: a browser would take
processor time of its own, which is not the server's.
"""

import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks.harness.load import Load, check, loads, need_wrk, wrk
from benchmarks.harness.measure import Figures, measure, medians
from benchmarks.harness.ratios import ratios
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.servers import GUARDS, Server, gateway, running

ROUNDS, SECONDS, WARM_UP_SECONDS = 7, 6.0, 1.0
QUICK_SECONDS = 1.0
CLIENTS = (1, 64)
FIGURES: Mapping[str, str] = {"rows/s": "rows_per_second", "rows per core-second": "rows_per_core_second"}
OPEN, CLOSED = "page open", "page closed"
ASKED: Mapping[str, float] = {"/console/data/now": 2.0, "/console/data/model": 5.0, "/console/data/monitors": 5.0}
"""How many seconds pass between two questions for each document, if the tabs Now and Drift are open in two windows."""
TICK = 0.1


def main(*, quick: bool, rounds: int | None = None) -> None:
    """Measure, print tables and the JSON document."""
    need_wrk()
    rounds = rounds or (1 if quick else ROUNDS)
    console = Console(stderr=True)
    sent = [load for load in loads() if load.rows == 1 and load.header_length is None and load.clients in CLIENTS]
    measured: list[dict[str, dict[str, Figures]]] = [{} for _ in range(rounds)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        monitors = [{"name": "streams", "kind": "sequential"}]
        stack = gateway("console", GUARDS, folder, monitors=monitors, server={"console": True})
        with running(stack, folder) as server:
            cases: dict[str, Callable[[Load, float], Figures]] = {
                OPEN: lambda load, seconds: _with_page(server, load, seconds),
                CLOSED: lambda load, seconds: measure(server, load, seconds),
            }
            check(server)
            for load in sent:
                wrk(server, load, WARM_UP_SECONDS)
            for number in range(rounds):
                console.print(f"round {number + 1}/{rounds}", highlight=False)
                for load in sent:
                    for case in list(cases)[:: -1 if number % 2 else 1]:
                        figures = cases[case](load, QUICK_SECONDS if quick else SECONDS)
                        measured[number].setdefault(load.name, {})[case] = figures
    found = {load.name: {case: [each[load.name][case] for each in measured] for case in cases} for load in sent}
    compared = {
        name: {
            figure: ratios(
                [getattr(each, field) for each in by_case[OPEN]], [getattr(each, field) for each in by_case[CLOSED]]
            )
            for figure, field in FIGURES.items()
        }
        for name, by_case in found.items()
    }
    print_table(
        f"{OPEN} / {CLOSED}, round by round: median [least, greatest] of {rounds}",
        {name: {key: str(each) for key, each in row.items()} for name, row in compared.items()},
    )
    print_document(
        "console",
        quick=quick,
        rounds=rounds,
        ratios=compared,
        medians={name: {case: medians(each) for case, each in by_case.items()} for name, by_case in found.items()},
    )


def _with_page(server: Server, load: Load, seconds: float) -> Figures:
    with _page(server):
        return measure(server, load, seconds)


@contextmanager
def _page(server: Server) -> Iterator[None]:
    """Ask a server for what open pages ask, until the context ends."""
    ended = threading.Event()

    def ask() -> None:
        due = dict.fromkeys(ASKED, 0.0)
        now = 0.0
        while not ended.wait(TICK):
            now += TICK
            for path, pause in ASKED.items():
                if due[path] <= now:
                    due[path] = now + pause
                    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=30) as answer:
                        answer.read()

    asking = threading.Thread(target=ask, name="page")
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()
