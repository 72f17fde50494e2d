"""Drift: rows to a false alarm, rows to a true one, and which columns, beside other detectors on the same streams.

Random seeds of figures start at 1000; those that the bets were chosen on are below.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from benchmarks.drift.plots import draw
from benchmarks.drift.rivals import RIVALS, RUN_LENGTH, installed_rivals
from benchmarks.drift.sequential_monitor import constant_result, feed, monitor
from benchmarks.drift.streams import CHANGES, DEPENDENT, Change
from benchmarks.harness.report import print_document, print_table
from guards.types import Batch

__all__ = ["main"]

Floats = npt.NDArray[np.float64]
SEED = 1000
REFERENCE_ROWS = 10_000
BEFORE, AFTER, EPOCH = 2000, 10_000, 16
SHIFTS = (0.25, 0.5, 1.0)


def main(*, quick: bool, out: Path | None = None) -> None:
    """Measure, print tables and the JSON document, and draw into ``out``."""
    torch.set_num_threads(1)
    runs, rows = (2, 20_000) if quick else (40, 300_000)
    console = Console(stderr=True)
    started = time.perf_counter()
    rivals = installed_rivals(console, quick=quick)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    parts: dict[str, Callable[[], dict[str, dict[str, Any]]]] = {
        "cost": lambda: {"sequential": _cost(200 if quick else 2000)},
        "delay": lambda: _delays(runs),
        "attribution": lambda: _attribution(runs),
        "rivals": lambda: _rivals(rivals, runs, rows),
        "dependent": lambda: _dependent(max(2, runs // 4), rows // 6),
        "control": lambda: _control(runs, rows),
    }
    for name, measure in parts.items():
        found[name] = measure()
        print_table(name, found[name])
        console.print(f"{name}: {time.perf_counter() - started:.0f} s", highlight=False)
    if out is not None:
        draw(out, seed=SEED, reference_rows=REFERENCE_ROWS)
    print_document("drift", quick=quick, runs=runs, run_length=RUN_LENGTH, **found)


def _cost(batches: int) -> dict[str, float]:
    """Time a row (of this process's CPU), and weigh the live arrays, at 64 streams."""
    rng = np.random.default_rng(SEED)
    watching = monitor(rng.normal(size=(REFERENCE_ROWS, 63)))
    figures = {}
    for size in (1, 16, 64):
        made = [Batch(torch.tensor(rng.normal(size=(size, 63)), dtype=torch.float32)) for _ in range(batches)]
        outcomes = [constant_result(batch) for batch in made]
        with torch.inference_mode():
            watching.observe(made[0], outcomes[0])
            start = time.process_time()
            for batch, outcome in zip(made, outcomes, strict=True):
                watching.observe(batch, outcome)
        figures[f"CPU microseconds a row, batches of {size}"] = 1e6 * (time.process_time() - start) / batches / size
    live = (
        watching.counts,
        watching.evidence,
        watching.unjudged,
        watching.window,
        watching.alarm_counts,
        watching.drifted,
    )
    return {**figures, "bytes a stream": sum(array.nbytes for array in live) / len(watching.names)}


def _control(runs: int, rows: int) -> dict[str, dict[str, float]]:
    """Count alarms while nothing changes; each run has a reference of its own."""
    found = {}
    for columns, count, length in ((1, runs, rows), (30, max(2, runs // 4), rows // 3)):
        alarms, highest = 0, 0.0
        for run in range(count):
            rng = np.random.default_rng([SEED, columns, run])
            watching = monitor(rng.normal(size=(REFERENCE_ROWS, columns)))
            alone = next(s.value for s in watching.report() if s.name == "threshold")
            for _ in range(max(1, length // 10_000)):
                alarms += feed(watching, rng.normal(size=(10_000, columns))) is not None
                evidence = max(s.value or 0.0 for s in watching.report() if s.name == "evidence")
                highest = max(highest, evidence / (alone or math.nan))
                if watching.state() == "alarm":
                    break
        found[f"{columns} columns"] = {"runs": count, "rows each": length, "alarms": alarms, "nearest": highest}
    return found


def _moved(shift: float) -> Change:
    return lambda x, _: x + shift


def _delays(runs: int) -> dict[str, dict[str, object]]:
    """Measure the rows from a change of one column to the alarm; the other columns do not change."""
    plans = [(columns, f"mean + {shift}", _moved(shift)) for columns in (1, 10, 63) for shift in SHIFTS]
    plans += [(10, name, change) for name, change in CHANGES.items()]
    found: dict[str, dict[str, object]] = {}
    for columns, name, change in plans:
        delays, early, right = [], 0, 0
        for run in range(runs):
            rng = np.random.default_rng([SEED, 7, run])
            watching = monitor(rng.normal(size=(REFERENCE_ROWS, columns)))
            early += feed(watching, rng.normal(size=(BEFORE, columns))) is not None
            moved = rng.normal(size=(AFTER, columns))
            moved[:, 0] = change(moved[:, 0], rng)
            delays.append(feed(watching, moved, size=EPOCH) or math.inf)
            right += [n for n, d in zip(watching.names, watching.drifted, strict=True) if d] == ["column:c0"]
        found[f"{columns} columns, {name}"] = {**_summary(delays), "early": early, "only that column named": right}
    return found


def _attribution(runs: int) -> dict[str, dict[str, float]]:
    """Measure which of 30 columns are named if 3 have moved: at the alarm, and some rows after it."""
    found = {}
    for shift in SHIFTS:
        scores: dict[str, list[tuple[float, float]]] = {"at the alarm": [], "1000 rows after the change": []}
        for run in range(runs):
            rng = np.random.default_rng([SEED, 30, run])
            watching = monitor(rng.normal(size=(REFERENCE_ROWS, 30)))
            moved = rng.normal(size=(AFTER, 30))
            moved[:, [4, 11, 23]] += shift
            feed(watching, rng.normal(size=(BEFORE, 30)))
            at = feed(watching, moved, size=EPOCH) or AFTER
            for when, until in (("at the alarm", at), ("1000 rows after the change", max(at, 1000))):
                feed(watching, moved[at:until], until="never")
                named = {i for i in range(30) if watching.drifted[i]}
                right = len(named & {4, 11, 23})
                scores[when].append((1 - right / len(named) if named else 0.0, right / 3))
        for when, pairs in scores.items():
            wrong, recall = np.mean(pairs, axis=0).tolist()
            found[f"3 of 30 columns + {shift}, {when}"] = {"false discovery proportion": wrong, "recall": recall}
    return found


def _rivals(rivals: Sequence[str], runs: int, rows: int) -> dict[str, dict[str, object]]:
    """Show all detectors the same streams of one column: without a change, and with a change of the mean."""
    found: dict[str, dict[str, object]] = {}
    for name in ("sequential", *rivals):
        slow, slowest = name.startswith(("river", "sequential")), name.startswith("alibi")
        length, count = (rows // 10, max(2, runs // 4)) if slow else (rows, runs)
        if slowest:
            length, count = rows // 30, max(2, runs // 10)
        row: dict[str, object] = {"rows in control": length, "runs": count}
        row["runs with a false alarm"] = sum(
            _first(name, [SEED, 1, run], length, 0) is not None for run in range(count)
        )
        for shift in SHIFTS:
            delays = []
            for run in range(count if slowest else runs):
                at = _first(name, [SEED, 2, run], AFTER, shift)
                delays.append(math.inf if at is None else at)
            row[f"delay, mean + {shift}"] = _summary(delays)["median"]
        found[name] = row
    return found


def _first(name: str, seed: list[int], rows: int, shift: float) -> int | None:
    """Show a detector a stream that is moved from its first row on."""
    rng = np.random.default_rng(seed)
    reference, stream = rng.normal(size=REFERENCE_ROWS), rng.normal(size=rows) + shift
    return _watch(name, reference, stream)


def _watch(name: str, reference: Floats, stream: Floats) -> int | None:
    if name in RIVALS:
        return RIVALS[name](reference, stream)
    tolerance = float(name.partition("tolerance ")[2] or 0)
    return feed(monitor(reference[:, None], tolerance=tolerance), stream[:, None], size=EPOCH)


def _dependent(runs: int, rows: int) -> dict[str, dict[str, object]]:
    """Break the assumptions: rows that depend on earlier rows, and daily cycles, in reference and stream."""
    names = ["sequential", "sequential, tolerance 0.1", "sequential, tolerance 0.3", *list(RIVALS)[:4], "river ADWIN"]
    found: dict[str, dict[str, object]] = {}
    for null, change in DEPENDENT.items():
        for name in names:
            alarms = []
            for run in range(runs):
                rng = np.random.default_rng([SEED, 3, run])
                both = change(rng.normal(size=REFERENCE_ROWS + rows), rng)
                at = _watch(name, both[:REFERENCE_ROWS], both[REFERENCE_ROWS:])
                alarms.append(math.inf if at is None else at)
            found[f"{null}: {name}"] = {
                "runs": runs, "runs with a false alarm": sum(map(math.isfinite, alarms)), **_summary(alarms),
            }  # fmt: skip
    return found


def _summary(values: list[float]) -> dict[str, object]:
    """Give the median and the quartiles; None if that many runs saw no alarm."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75], method="higher").tolist()
    return {key: v if math.isfinite(v) else None for key, v in (("median", median), ("q1", low), ("q3", high))}
