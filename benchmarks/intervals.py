"""How often the 95 % intervals of ``evaluate`` hold the true figure, in repeated samples of known distributions.

Clean rows are drawn from one distribution and suspect rows from another; the true figures are those of a large sample.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.report import print_document, print_table
from guards.cli.detection import detection

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
SIZES = ((50, 50), (400, 400), (400, 20), (50, 800))
"""Numbers of clean rows and of suspect rows."""
LARGE = 100_000
FIGURES = ("auroc", "aupr", "fpr_at_95_tpr")
SEED = 2026


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    runs, large = (3, 2000) if quick else (200, LARGE)
    found = [
        _coverage(name, pair, sizes, runs=runs, large=large)
        for name, pair in _distributions().items()
        for sizes in SIZES
    ]
    print_table(
        f"how often the interval holds the true figure, in {runs} samples; the true figure in brackets",
        {
            row["what"]: {name: f"{row['holds'][name]:.3f} ({row['true'][name]:.3f})" for name in FIGURES}
            for row in found
        },
    )
    print_document("intervals", quick=quick, runs=runs, coverage=found)


def _distributions() -> dict[str, tuple[Draw, Draw]]:
    """Give the distributions of the scores of clean rows and of suspect rows."""

    def normal(mean: float, width: float) -> Draw:
        return lambda generator, rows: generator.normal(mean, width, rows)

    def heavy(mean: float) -> Draw:
        return lambda generator, rows: generator.standard_t(2, rows) + mean

    def mixed(generator: np.random.Generator, rows: int) -> Floats:
        far = generator.random(rows) < 0.7  # noqa: PLR2004 - the others are like clean rows
        return np.where(far, generator.normal(6, 1, rows), generator.normal(0, 1, rows))

    return {
        "normal, 1 apart": (normal(0, 1), normal(1, 1)),
        "normal, 4 apart": (normal(0, 1), normal(4, 1)),
        "suspects three times as wide": (normal(0, 1), normal(5, 3)),
        "a third of the suspects like clean rows": (normal(0, 1), mixed),
        "heavy tails (t with 2 degrees of freedom)": (heavy(0), heavy(6)),
    }


def _coverage(name: str, pair: tuple[Draw, Draw], sizes: tuple[int, int], *, runs: int, large: int) -> dict[str, Any]:
    """Count the samples whose intervals hold the figures of a large sample with the same mix of rows."""
    generator = np.random.default_rng(SEED)
    share = large / sum(sizes)
    true = _figures(pair, generator, [round(share * rows) for rows in sizes])
    hits = dict.fromkeys(FIGURES, 0)
    for _ in range(runs):
        found = _figures(pair, generator, sizes)
        for figure in FIGURES:
            low, high = found[f"{figure}_interval"]
            hits[figure] += low <= true[figure] <= high
    return {
        "what": f"{name}; {sizes[0]} clean, {sizes[1]} suspect",
        "true": {figure: true[figure] for figure in FIGURES},
        "holds": {figure: hits[figure] / runs for figure in FIGURES},
    }


def _figures(pair: tuple[Draw, Draw], generator: np.random.Generator, sizes: Any) -> dict[str, Any]:  # noqa: ANN401
    clean, suspect = (draw(generator, rows) for draw, rows in zip(pair, sizes, strict=True))
    return dict(detection(clean, suspect, clean > 0, suspect > 0))
