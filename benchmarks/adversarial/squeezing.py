"""How many rows that deceive the model `squeeze` finds, beside the guards of the examples: an anomaly signal.

The thresholds come from calibration rows, as in the gateway. The share of found rows is of the rows that got a wrong
label: by gradients of the model alone, by queries (NES and Square: the row of the last query), and by gradients of the
model and of `squeeze`. Only the last attacker knows the guard. MNIST and Fashion-MNIST need the data folder that
GUARDHOUSE_DATA names.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.adversarial.examples import SQUEEZE, Defended, share_of, shown, trained_example, trained_on_mnist
from benchmarks.detection.fashion import data_folder
from benchmarks.harness.report import print_document, print_table
from guards.attacks.runner import run
from guards.attacks.space import Rows
from guards.attacks.target import Bools
from guards.statistics.proportions import Proportion

__all__ = ["judged", "main"]

STACKS = ("digits", "mnist", "fashion")
EPS = {"digits": (0.05, 0.1), "mnist": (0.1, 0.2), "fashion": (0.01, 0.03)}
LEVELS = (0.01, 0.001)
BY_QUERIES = ("nes", "square")
Shares = dict[str, Proportion | None]


def main(*, quick: bool, stacks: tuple[str, ...] = STACKS) -> None:
    """Train, attack, and print a table for each data set."""
    torch.set_num_threads(1)
    rows, steps, restarts, budget = (8, 10, 2, 60) if quick else (64, 100, 2, 1000)
    document: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for name in stacks[:1] if quick else stacks:
            needed = data_folder() / {"fashion": "fashion-mnist"}.get(name, name)
            if name != "digits" and not needed.is_dir():
                sys.stderr.write(f"no {needed}: set GUARDHOUSE_DATA to attack {name}\n")
                continue
            if name == "mnist":
                example = trained_on_mnist(Path(folder))
            else:
                example = trained_example(name, "plain", Path(folder), quick=quick)
            table = judged(example, EPS[name], rows=rows, steps=steps, restarts=restarts, budget=budget)
            print_table(f"{name}: share found at 1 % and at 0.1 % false alarms", shown(table))
            document[name] = table
    print_document("squeezing", quick=quick, rows=rows, steps=steps, restarts=restarts, budget=budget, found=document)


def judged(
    example: Path, epses: tuple[float, ...], *, rows: int, steps: int, restarts: int, budget: int
) -> dict[str, Shares]:
    """Attack a trained example, and give the share of deceiving rows that each guard finds, and of clean rows."""
    alone, every, only = (
        Defended.fitted(example, []),
        Defended.fitted(example, [SQUEEZE], add=True),
        Defended.fitted(example, [SQUEEZE]),
    )
    clean = every.rows.x.numpy()
    table = {"clean rows": _found(every, clean)}
    for eps in epses:
        for name, success, crafted in _oblivious(alone, eps, rows=rows, steps=steps, restarts=restarts, budget=budget):
            table[f"{name}, eps {eps:g}"] = {"success": share_of(success), **_found(every, crafted)}
        chosen, pgd = only.chosen(rows), only.pgd(steps=steps, restarts=restarts)
        aware = pgd("aware", "linf", chosen.x, chosen.y, eps=eps, seed=0)
        found = share_of(~aware.undetected[aware.success])
        table[f"pgd.aware, eps {eps:g}"] = {"success": share_of(aware.success), _column("squeezed", LEVELS[0]): found}
    return table


def _oblivious(
    alone: Defended, eps: float, *, rows: int, steps: int, restarts: int, budget: int
) -> Iterator[tuple[str, Bools, Rows]]:
    """Attack without knowing a guard: the name, which rows got a wrong label, and what these rows became."""
    chosen = alone.chosen(rows)
    crafted = alone.pgd(steps=steps, restarts=restarts)("oblivious", "linf", chosen.x, chosen.y, eps=eps, seed=0)
    yield "pgd.oblivious", crafted.success, crafted.rows[crafted.success]
    for name in BY_QUERIES:
        traces = run(
            name, "plain", alone.target, alone.space(), chosen.x, chosen.y.tolist(), chosen.starts,
            epses=(eps,), budget=budget, seed=0,
        )  # fmt: skip
        success = np.array([eps in trace.found for trace in traces])
        crafted_rows = [trace.found[eps] for trace in traces if eps in trace.found]
        yield name, success, np.array(crafted_rows, dtype=np.float32).reshape(-1, *chosen.x.shape[1:])


def _found(every: Defended, crafted: Rows) -> Shares:
    """Give the share of rows whose p-value is at or under each level, by guard; None if no p-value can be so small.

    Without rows there is nothing to give.
    """
    if not len(crafted):
        return {}
    p_values, least = every.p_values(crafted), 1 / (every.bundle.scores.shape[1] + 1)
    return {
        _column(name, level): share_of(p <= level) if least <= level else None
        for name, p in p_values.items()
        for level in LEVELS
    }


def _column(guard: str, level: float) -> str:
    return f"{guard} {level:g}"
