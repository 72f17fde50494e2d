"""The evidence over time, drawn: runs without a change, and runs with one."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.drift.sequential_monitor import feed, monitor
from guards.monitors.sequential import Sequential

__all__ = ["draw"]

Floats = npt.NDArray[np.float64]
RUNS, ROWS, BEFORE = 20, 20_000, 2000


def draw(out: Path, *, seed: int, reference_rows: int) -> None:
    """Write ``drift-control.png`` and ``drift-delay.png``: the log evidence of one column, run by run."""
    import matplotlib as mpl  # noqa: PLC0415 - needed for plots alone

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    colours = {0.0: "tab:grey", 0.25: "tab:blue", 0.5: "tab:orange", 1.0: "tab:red"}
    for file, title, rows, shifts in (
        ("drift-control.png", "Nothing changes", ROWS, (0.0,)),
        ("drift-delay.png", f"The mean moves at row {BEFORE:,}", BEFORE + 1000, (0.25, 0.5, 1.0)),
    ):
        figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
        threshold = 0.0
        for shift in shifts:
            for run in range(RUNS):
                rng = np.random.default_rng([seed, 9, run])
                watching = monitor(rng.normal(size=(reference_rows, 1)))
                stream = rng.normal(size=(rows, 1))
                stream[BEFORE:] += shift
                threshold, evidence = _evidence(watching, stream)
                label = (f"mean + {shift:g} sd" if shift else "one run each") if run == 0 else None
                places = watching.params.epoch * np.arange(1, len(evidence) + 1)
                axes.plot(places, evidence, color=colours[shift], alpha=0.5, linewidth=0.8, label=label)
        axes.axhline(threshold, color="black", linestyle="--", label="alarm")
        axes.set(xlabel="rows", ylabel="log e-value of the column", title=f"{title}: {RUNS} runs, one reference each")
        axes.set_ylim(0, 1.5 * threshold)
        axes.legend(loc="upper left")
        figure.savefig(out / file, dpi=120)
        plt.close(figure)


def _evidence(watching: Sequential, stream: Floats) -> tuple[float, list[float]]:
    """Give the threshold, and the first column's log evidence after each epoch."""
    epoch, evidence, threshold = watching.params.epoch, [], 0.0
    for start in range(0, len(stream) // epoch * epoch, epoch):
        feed(watching, stream[start : start + epoch], until="never")
        statistics = watching.report()
        threshold = statistics[0].value or 0.0
        evidence.append(next(s.value or 0.0 for s in statistics if s.name == "evidence"))
    return threshold, evidence
