"""Drift: rows to a false alarm, rows to a true one, and which columns, beside other detectors on the same streams.

Random seeds of figures start at 1000; those that the bets were chosen on are below.
"""

import json
import math
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.drift_plots import draw
from benchmarks.drift_rivals import RIVALS, RUN_LENGTH
from benchmarks.drift_streams import CHANGES, DEPENDENT, Change
from benchmarks.machine import describe
from guards.columns import Column
from guards.monitor import Context
from guards.monitors.sequential import Sequential, SequentialParams
from guards.schema import InputSchema
from guards.types import Batch, ModelOutput, Outcome, Prediction, Reference, Verdict

__all__ = ["feed", "main", "monitor"]

Floats = npt.NDArray[np.float64]
SEED = 1000
REFERENCE_ROWS = 10_000
BEFORE, AFTER, EPOCH = 2000, 10_000, 16
SHIFTS = (0.25, 0.5, 1.0)


def monitor(reference: Floats, **params: float) -> Sequential:
    """Fit the product's monitor on reference rows (n, columns) of a table without guards, features or labels."""
    columns = tuple(Column(name=f"c{i}", kind="numeric") for i in range(reference.shape[1]))
    schema = InputSchema(kind="tabular", shape=(len(columns),), columns=columns)
    settings = {"average_run_length": int(RUN_LENGTH), **params}
    fresh = Sequential(
        SequentialParams.model_validate({"name": "drift", "projections": 0, **settings}), Context(schema, (), ())
    )
    batch = Batch(torch.tensor(reference, dtype=torch.float32))
    return fresh.fit(Reference(batch, None, schema), _outcome(batch))


def _outcome(batch: Batch) -> Outcome:
    """Answer rows with a constant: one more stream that never moves."""
    none, rows = torch.zeros((0, len(batch))), torch.zeros(len(batch))
    verdict = Verdict((), none, none, none.bool(), None, rows.long(), {})
    return Outcome(ModelOutput(rows[:, None], rows[:, None]), Prediction(value=rows), verdict)


def feed(watching: Sequential, rows: Floats, *, size: int = 256, until: str = "alarm") -> int | None:
    """Show rows (n, columns) in micro-batches until a state is reached, and tell after how many that was."""
    x = torch.tensor(rows, dtype=torch.float32)
    with torch.inference_mode():
        for start in range(0, len(x), size):
            batch = Batch(x[start : start + size])
            watching.observe(batch, _outcome(batch))
            if watching.state() == until:
                return start + len(batch)
    return None


def main(*, quick: bool, out: Path | None = None) -> None:
    """Measure, print tables and the JSON document, and draw into ``out``."""
    torch.set_num_threads(1)
    runs, rows = (4, 20_000) if quick else (40, 300_000)
    console = Console(stderr=True)
    started = time.perf_counter()
    document: dict[str, object] = {"machine": describe(), "runs": runs, "run_length": RUN_LENGTH}
    for name, measure in (
        ("cost", lambda: _cost(200 if quick else 2000)),
        ("delay", lambda: _delays(runs)),
        ("attribution", lambda: _attribution(runs)),
        ("rivals", lambda: _rivals(runs, rows)),
        ("dependent", lambda: _dependent(max(4, runs // 4), rows // 6)),
        ("control", lambda: _control(runs, rows)),
    ):
        document[name] = measure()
        _show(name, document[name], console)
        console.print(f"{name}: {time.perf_counter() - started:.0f} s", highlight=False)
    if out is not None:
        draw(out, monitor, seed=SEED, reference_rows=REFERENCE_ROWS)
    print(json.dumps(document, indent=1))


def _cost(batches: int) -> dict[str, float]:
    """Time a row (of this process's CPU), and weigh the live arrays, at 64 streams."""
    rng = np.random.default_rng(SEED)
    watching = monitor(rng.normal(size=(REFERENCE_ROWS, 63)))
    figures = {}
    for size in (1, 16, 64):
        made = [Batch(torch.tensor(rng.normal(size=(size, 63)), dtype=torch.float32)) for _ in range(batches)]
        outcomes = [_outcome(batch) for batch in made]
        with torch.inference_mode():
            watching.observe(made[0], outcomes[0])
            start = time.process_time()
            for batch, outcome in zip(made, outcomes, strict=True):
                watching.observe(batch, outcome)
        figures[f"CPU microseconds a row, batches of {size}"] = 1e6 * (time.process_time() - start) / batches / size
    live = (watching.counts, watching.evidence, watching.unjudged, watching.window, watching.alarms, watching.drifted)
    return {**figures, "bytes a stream": sum(array.nbytes for array in live) / len(watching.names)}


def _control(runs: int, rows: int) -> dict[str, dict[str, float]]:
    """Count alarms where nothing changes, each run with a reference of its own."""
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


def _delays(runs: int) -> dict[str, dict[str, object]]:
    """Measure rows from a change of one column to the alarm; the other columns stay."""
    plans: list[tuple[int, str, Change]] = [
        (columns, f"mean + {shift}", lambda x, _, by=shift: x + by) for columns in (1, 10, 63) for shift in SHIFTS
    ]
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
    """Say which of 30 columns have moved, where 3 have: at the alarm and some rows after it."""
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


def _rivals(runs: int, rows: int) -> dict[str, dict[str, object]]:
    """Put all through the same streams of one column: without a change, and with one of the mean."""
    found: dict[str, dict[str, object]] = {}
    for name in ("sequential", *RIVALS):
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
    """Break what is assumed: rows that depend on those before, and days, in the reference as in the stream."""
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
    """Give the median and the quartiles; None where that many runs saw no alarm."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75], method="higher").tolist()
    return {key: v if math.isfinite(v) else None for key, v in (("median", median), ("q1", low), ("q3", high))}


def _show(title: str, figures: object, console: Console) -> None:
    assert isinstance(figures, dict)  # noqa: S101
    if not isinstance(next(iter(figures.values())), dict):
        figures = {name: {title: value} for name, value in figures.items()}
    heads = list(next(iter(figures.values())))
    grid = Table("", *heads, title=title)
    for name, row in figures.items():
        grid.add_row(name, *("-" if (v := row.get(h)) is None else f"{v:.4g}" for h in heads))
    console.print(grid)
