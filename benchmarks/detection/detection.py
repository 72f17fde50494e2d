"""How well each detector finds foreign rows: digits, Fashion-MNIST against MNIST, and classes never seen.

The detectors have their defaults. Fashion-MNIST needs the data folder that GUARDHOUSE_DATA names; without the folder
these tables are left out, with a sentence.
"""

import sys
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.detection.case import Case
from benchmarks.detection.digits import digit_cases
from benchmarks.detection.fashion import UNSEEN, data_folder, fashion_case
from benchmarks.detection.figures import ablations, costs, detectors, judged, mean_of
from benchmarks.harness.report import print_document, print_table

SEEDS, QUICK_SEEDS = 10, 1
Figures = dict[str, dict[str, dict[str, Any]]]


def main(*, quick: bool) -> None:
    """Judge the detectors on each table's cases; print the tables and the JSON document."""
    torch.set_num_threads(1)
    tables = {}
    for name, cases in _tables(quick=quick):
        found, ablated, accuracies, microseconds = [], [], [], {}
        for case in cases:
            scorers = detectors(case)
            found.append(judged(case, scorers))
            ablated.append(judged(case, ablations(case)))
            accuracies.append(case.accuracy)
            microseconds = costs(case, scorers)
        means, ablation = mean_of(found), mean_of(ablated)
        tables[name] = {
            "accuracy": accuracies,
            "detectors": means,
            "ablation of gaussian": ablation,
            "microseconds a row": microseconds,
        }
        accuracy = sum(accuracies) / len(accuracies)
        print_table(f"{name}: AUROC / TPR at 1 % (accuracy {accuracy:.3f})", _shown(means, microseconds))
        print_table(f"{name}: the gaussian detector's parts and views", _shown(ablation, {}))
    print_document("detection", quick=quick, tables=tables)


def _tables(*, quick: bool) -> Iterator[tuple[str, Iterator[Case]]]:
    yield "digits, 6 of 10 classes known", digit_cases(QUICK_SEEDS if quick else SEEDS)
    folder = data_folder()
    if not (folder / "fashion-mnist").is_dir():
        sys.stderr.write(f"no {folder / 'fashion-mnist'}: set GUARDHOUSE_DATA for the tables of Fashion-MNIST\n")
        return
    yield "Fashion-MNIST", iter([fashion_case((), quick=quick)])
    yield "Fashion-MNIST without 3, 6, 9", iter([fashion_case(UNSEEN, quick=quick)])


def _shown(means: Figures, microseconds: dict[str, float]) -> dict[str, dict[str, str]]:
    """Lay out a table: a row for each detector, a column for each set of suspects."""
    rows = {}
    for name, sets in means.items():
        row = {
            suspects: f"{figures['AUROC']:.3f}/{figures['TPR at 0.01']:.2f}"
            for suspects, figures in sets.items()
            if suspects != "clean" and not suspects.startswith("corrupted")
        }
        low, high = sets["clean"]["false alarms at 0.01, interval"]
        row["false alarms"] = f"{sets['clean']['false alarms at 0.01']:.1%} [{low:.1%}, {high:.1%}]"
        if name in microseconds:
            row["us"] = f"{microseconds[name]:.0f}"
        rows[name] = row
    return rows
