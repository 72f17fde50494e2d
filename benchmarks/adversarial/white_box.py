"""Guards and adversarial training against adversarial training alone, if the attacker knows the model and the guards.

Both examples are trained as their READMEs say, and attacked by `pgd.oblivious` and `pgd.aware` of `guardhouse attack`:
without guards, with the guards of their config, and with `squeeze` beside these. All guards of a training judge the
same model, so that a row which passes the guards also deceives the model alone: "alone" is therefore the share of rows
on which any of these attacks found a wrong label. `fashion` needs the data folder that GUARDHOUSE_DATA names.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.adversarial.examples import SQUEEZE, TRAININGS, Defended, share_of, shown, trained_example
from benchmarks.detection.fashion import data_folder
from benchmarks.harness.report import print_document, print_table
from guards.attacks.pgd import KNOWLEDGE, Crafted
from guards.statistics.proportions import Proportion

__all__ = ["main", "measured"]

STACKS = ("digits", "fashion")
EPS = {"digits": (0.05, 0.1, 0.15, 0.2, 0.6), "fashion": (0.05, 0.1, 0.15, 0.2, 0.6)}
"""The last is so large that every model must fall: a sanity check."""
Shares = dict[str, Proportion | None]


def main(*, quick: bool, stacks: tuple[str, ...] = STACKS) -> None:
    """Train, attack, and print a table for each example and training."""
    torch.set_num_threads(1)
    rows, steps, restarts = (8, 10, 2) if quick else (128, 100, 2)
    document: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for name in stacks[:1] if quick else stacks:
            if name == "fashion" and not (data_folder() / "fashion-mnist").is_dir():
                sys.stderr.write(f"no {data_folder() / 'fashion-mnist'}: set GUARDHOUSE_DATA to attack fashion\n")
                continue
            for training in TRAININGS:
                example = trained_example(name, training, Path(folder), quick=quick)
                epses = EPS[name][2:3] if quick else EPS[name]
                clean, table = measured(example, epses, rows=rows, steps=steps, restarts=restarts)
                print_table(f"{name}, {training} training: clean rows", shown(clean))
                print_table(f"{name}, {training} training: attacked rows", shown(table))
                document.setdefault(name, {})[training] = {"clean": clean, "attacked": table}
    print_document("white_box", quick=quick, rows=rows, steps=steps, restarts=restarts, examples=document)


def measured(
    example: Path, epses: tuple[float, ...], *, rows: int, steps: int, restarts: int
) -> tuple[dict[str, Shares], dict[str, Shares]]:
    """Attack a trained example with and without guards.

    Returns the accuracy and false alarms of each set of guards on clean rows, and the shares of attacked rows by eps.
    """
    sets = {
        "no guard": Defended.fitted(example, []),
        "guards": Defended.fitted(example, [], add=True),
        "guards + squeeze": Defended.fitted(example, [SQUEEZE], add=True),
    }
    clean = {name: _on_clean_rows(defended) for name, defended in sets.items()}
    table: dict[str, Shares] = {}
    for eps in epses:
        crafted = {f"{name}, {knowledge}": each for name, knowledge, each in _attacks(sets, eps, rows, steps, restarts)}
        for name, share in _shares(crafted).items():
            table.setdefault(name, {})[f"eps {eps:g}"] = share
    return clean, table


def _attacks(
    sets: Mapping[str, Defended], eps: float, rows: int, steps: int, restarts: int
) -> Iterator[tuple[str, str, Crafted]]:
    for name, defended in sets.items():
        chosen = defended.chosen(rows)
        pgd = defended.pgd(steps=steps, restarts=restarts)
        for knowledge in KNOWLEDGE if len(defended.bundle.config.guards) else KNOWLEDGE[:1]:
            yield name, knowledge, pgd(knowledge, "linf", chosen.x, chosen.y, eps=eps, seed=0)


def _shares(crafted: Mapping[str, Crafted]) -> Shares:
    """Give the share of rows that deceive the model, and of rows that also pass the guards, each with its interval."""
    alone = np.logical_or.reduce([each.success for each in crafted.values()])
    shares: Shares = {"alone": share_of(alone)}
    for name, each in crafted.items():
        if not name.startswith("no guard"):
            shares[f"{name}: success"] = share_of(each.success)
            shares[f"{name}: undetected"] = share_of(each.undetected)
    return shares


def _on_clean_rows(defended: Defended) -> Shares:
    answers = defended.target.alone(defended.rows.x.numpy())
    assert defended.rows.y is not None  # noqa: S101 - the examples have labels
    right = answers.labels == defended.rows.y.numpy()
    return {"accuracy": share_of(right), "false alarms": share_of(answers.flagged)}
