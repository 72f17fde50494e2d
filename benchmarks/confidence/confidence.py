"""Whether confidence is what it says: coverage and size of sets and intervals, calibration error, abstention, budget.

Networks are trained on a part of each data set; all splits are cut from the other rows. Fashion-MNIST and Adult are
read from the folder that ``GUARDHOUSE_DATA`` names, and left out if they are not there.
"""

import torch
from rich.console import Console

from benchmarks.confidence.intervals import interval_figures
from benchmarks.confidence.pools import data_folder, label_pools, value_pools
from benchmarks.confidence.promises import abstention_figures, budget_figures
from benchmarks.confidence.sets import set_figures
from benchmarks.harness.report import print_document, print_table

__all__ = ["main"]


def main(*, quick: bool) -> None:
    """Measure, print tables and the JSON document."""
    torch.set_num_threads(1)
    splits, proofs = (3, 10) if quick else (100, 200)
    sets, errors, abstention, budget, intervals = {}, {}, {}, {}, {}
    for pool in label_pools(quick=quick):
        sets[pool.name], errors[pool.name] = set_figures(pool, splits=splits)
        print_table(f"{pool.name}: sets of coverage 0.9, means over {splits} splits", sets[pool.name])
        abstention[pool.name] = abstention_figures(pool, splits=proofs)
        budget[f"{pool.name}, marginal"] = budget_figures(pool, "marginal", splits=proofs)
        budget[f"{pool.name}, pac"] = budget_figures(pool, "pac", splits=proofs)
    print_table(f"calibration error (ECE, 15 bins), means over {splits} splits", errors)
    print_table(f"abstention with a target_error over {proofs} calibration sets", abstention)
    print_table(f"false alarms of two guards over {proofs} calibration sets", budget)
    for values in value_pools(quick=quick):
        intervals[values.name] = interval_figures(values, splits=splits)
        print_table(f"{values.name}: intervals of coverage 0.9, means over {splits} splits", intervals[values.name])
    if len(errors) == 1:
        Console(stderr=True).print(f"Fashion-MNIST and Adult are left out: no data at {data_folder()}", highlight=False)
    figures = {"sets": sets, "calibration_error": errors, "abstention": abstention, "budget": budget}
    print_document("confidence", quick=quick, splits=splits, proofs=proofs, **figures, intervals=intervals)
