"""What a request costs the front process: processor time by role, single rows in JSON and as binary data.

Two models: the small CNN, whose row is 784 numbers, and a model of 64 numbers that costs next to nothing. Every round
loads each server in turn. With ``--before``, the server of another commit takes its turn beside today's.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from torch import Generator as Randomness
from torch import Tensor, rand

from benchmarks.harness.checkout import unpack
from benchmarks.harness.load import Load, check, loads, need_wrk, wrk
from benchmarks.harness.measure import Figures, measure, medians
from benchmarks.harness.ratios import Spread, ratios
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.served_models import CNN, ServedModel
from benchmarks.harness.servers import GUARDS, Server, Stack, gateway, running
from benchmarks.stacks.small_image import SIDE, build

CLIENTS = (1, 64)
ROUNDS, SECONDS, WARM_UP_SECONDS = 5, 5.0, 1.0
QUICK_SECONDS = 1.0
TODAY, BEFORE = "today", "before"


def small_images(count: int, seed: int) -> Tensor:
    """Make images (count, 1, 8, 8) in [0, 1]."""
    return rand((count, 1, SIDE, SIDE), generator=Randomness().manual_seed(seed))


SMALL = ServedModel(build, {"kind": "image", "shape": [1, SIDE, SIDE]}, small_images)
MODELS: Mapping[str, ServedModel] = {"784 numbers": CNN, "64 numbers": SMALL}
Round = dict[str, dict[str, Figures]]
"""Figures by load and by server."""


def main(*, quick: bool, before: str | None = None, rounds: int | None = None) -> None:
    """Measure, print tables and the JSON document; ``before`` is a commit whose server takes its turn, too."""
    need_wrk()
    rounds = rounds or (1 if quick else ROUNDS)
    console = Console(stderr=True)
    measured: list[Round] = [{} for _ in range(rounds)]
    with tempfile.TemporaryDirectory() as name:
        other = None if before is None else unpack(before, Path(name))
        for called, model in MODELS.items():
            folder = Path(name) / called.replace(" ", "-")
            folder.mkdir()
            stacks = {TODAY: gateway(TODAY, GUARDS, folder, model=model)}
            if other is not None:
                stacks[BEFORE] = gateway(BEFORE, GUARDS, folder, model=_known_to(other, model), root=other)
            for number in range(rounds):
                console.print(f"{called}, round {number + 1}/{rounds}", highlight=False)
                measured[number] |= _round(stacks, folder, called, model, quick=quick, backwards=number % 2 == 1)
    names = list(measured[0])
    figures = {
        load: {server: medians([each[load][server] for each in measured]) for server in measured[0][load]}
        for load in names
    }
    for load in names:
        print_table(f"{load}: medians", {server: _row(each) for server, each in figures[load].items()})
    compared = {} if before is None else {load: _compared([each[load] for each in measured]) for load in names}
    if compared:
        print_table(
            f"{TODAY} / {before}, round by round: median [least, greatest] of {rounds}",
            {load: {key: str(each) for key, each in row.items()} for load, row in compared.items()},
        )
    print_document(
        "front_cost", quick=quick, rounds=rounds, before=before, medians=figures, ratios=compared, measured=measured
    )


def _known_to(checkout: Path, model: ServedModel) -> ServedModel:
    """Write the module of a model into another checkout if that commit does not have it; its builder is then known."""
    place = Path("benchmarks", "stacks", f"{model.build.__module__.rpartition('.')[2]}.py")
    if not (checkout / place).exists():
        (checkout / place).write_text((Path(__file__).resolve().parents[1] / place).read_text(encoding="utf-8"))
    return model


def _round(
    stacks: Mapping[str, Stack], folder: Path, called: str, model: ServedModel, *, quick: bool, backwards: bool
) -> Round:
    """Send each load to each server in turn; only one server runs at a time."""
    found: Round = {}
    for name in list(stacks)[:: -1 if backwards else 1]:
        with running(stacks[name], folder) as server:
            check(server, model)
            for load in _sent(model):
                figures = _figures(server, load, QUICK_SECONDS if quick else SECONDS)
                found.setdefault(f"{called}, {load.name}", {})[name] = figures
    return found


def _sent(model: ServedModel) -> list[Load]:
    return [load for load in loads(model) if load.rows == 1 and load.clients in CLIENTS]


def _figures(server: Server, load: Load, seconds: float) -> Figures:
    wrk(server, load, WARM_UP_SECONDS)
    return measure(server, load, seconds)


def _front(figures: Figures) -> float:
    """Return the processor time a request of the process that speaks HTTP: before the cut there was one process."""
    return figures.roles.get("front", figures.roles.get("worker", 0.0))


def _compared(measured: Sequence[Mapping[str, Figures]]) -> dict[str, Spread]:
    """Divide what today's server showed by what the other showed."""
    today, before = ([each[name] for each in measured] for name in (TODAY, BEFORE))
    return {
        "front CPU": ratios([_front(each) for each in today], [_front(each) for each in before]),
        "rows/s": ratios([each.rows_per_second for each in today], [each.rows_per_second for each in before]),
        "p50": ratios([each.p50_ms for each in today], [each.p50_ms for each in before]),
    }


def _row(figures: Figures) -> dict[str, object]:
    roles = {f"{role} us": each for role, each in figures.roles.items()}
    return {**roles, "rows/s": figures.rows_per_second, "p50 ms": figures.p50_ms, "p99 ms": figures.p99_ms}
