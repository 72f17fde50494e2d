"""Accuracy before labels come: the error of estimates, and the verdicts of the suitability monitor, under many shifts.

The windows differ in other columns than the windows on which the monitor's bounds were chosen, and the networks are
trained on other splits. The census table is read from the folder that ``GUARDHOUSE_DATA`` names.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from benchmarks.confidence.census import Case, cases, data_folder
from benchmarks.confidence.rivals import Judged, Rivals
from benchmarks.confidence.shifts import KINDS, windows
from benchmarks.harness.report import print_document, print_table
from guards.monitors.suitability.verdict import VERDICTS
from guards.types import Batch, Result

__all__ = ["main"]

CHUNK = 1000
SMALL, LARGE = 0.03, 0.05
"""Falls of accuracy below the first should pass, and none above the second; the second is the monitor's margin."""
OWN = "suitability"
INVISIBLE = "other labels"


@dataclass(frozen=True)
class Found:
    """A window: its accuracy by its labels, the fall from the held-out rows, the estimates, and the verdict."""

    case: str
    kind: str
    accuracy: float
    fall: float
    estimates: Mapping[str, float]
    verdict: str
    covered: bool


def main(*, quick: bool) -> None:
    """Measure, print tables and the JSON document."""
    torch.set_num_threads(1)
    if not (data_folder() / "adult_train.csv.gz").is_file():
        sys.exit(f"no data at {data_folder()}; set GUARDHOUSE_DATA")
    console = Console(stderr=True)
    count, rows = (2, 2000) if quick else (16, 2000)
    found: list[Found] = []
    costs: list[dict[str, float]] = []
    for case in cases(quick=quick):
        started = time.perf_counter()
        found += _measure(case, count, rows, costs)
        console.print(f"{case.name}: {time.perf_counter() - started:.0f} s", highlight=False)
    visible = [each for each in found if each.kind != INVISIBLE]
    told = [each for each in visible if each.verdict != "cannot_tell"]
    errors = {
        **{kind: _errors([each for each in found if each.kind == kind]) for kind in KINDS},
        "all but other labels": _errors(visible),
        "90th percentile": _errors(visible, lambda each: float(np.quantile(each, 0.9))),
        "worst": _errors(visible, lambda each: float(each.max())),
        "where the monitor can tell": _errors(told),
        "90th percentile there": _errors(told, lambda each: float(np.quantile(each, 0.9))),
    }
    verdicts = {
        **{kind: _verdicts([each for each in found if each.kind == kind]) for kind in KINDS},
        f"fall below {SMALL:g}": _verdicts([each for each in visible if each.fall < SMALL]),
        "fall between": _verdicts([each for each in visible if SMALL <= each.fall <= LARGE]),
        f"fall above {LARGE:g}": _verdicts([each for each in visible if each.fall > LARGE]),
    }
    noise = 100 * float(np.mean([0.8 * (each.accuracy * (1 - each.accuracy) / rows) ** 0.5 for each in visible]))
    cost = {name: float(np.median([each[name] for each in costs])) for name in costs[0]}
    print_table(
        f"error of the estimated accuracy, in points; sampling a window of {rows} rows alone: {noise:.2f}", errors
    )
    print_table("verdicts, margin 0.05", verdicts)
    print_table("cost of the monitor", {"median": cost})
    missed = [each for each in visible if each.fall > LARGE and each.verdict == "no_harm"]
    print_document(
        "suitability",
        quick=quick,
        windows=len(found),
        rows=rows,
        noise=noise,
        errors=errors,
        verdicts=verdicts,
        missed=missed,
        cost=cost,
    )


def _measure(case: Case, count: int, rows: int, costs: list[dict[str, float]]) -> list[Found]:
    rivals = Rivals(_judged(case, case.heldout.x.numpy(), _labels(case))[0])
    found = []
    for kind in KINDS:
        for window in windows(case, kind, count=count, rows=rows):
            judged, pieces = _judged(case, window.x, window.y)
            spent = _observe(case, pieces)
            costs.append({"microseconds a row": 1e6 * spent / rows})
            report = {(each.name, each.labels.get("verdict")): each for each in case.monitor.report()}
            accuracy = float(judged.right.mean())
            own = report["expected_accuracy", None]
            assert own.value is not None  # noqa: S101 - the window is full
            assert own.interval is not None  # noqa: S101
            verdict = next(name for name in VERDICTS if report["suitability", name].value)
            found.append(
                Found(
                    case.name,
                    kind,
                    accuracy,
                    rivals.accuracy - accuracy,
                    {**rivals.estimates(judged), OWN: own.value},
                    verdict,
                    own.interval[0] <= accuracy <= own.interval[1],
                )
            )
    return found


def _labels(case: Case) -> npt.NDArray[np.int64]:
    assert case.heldout.y is not None  # noqa: S101 - the census has labels
    return np.asarray(case.heldout.y.numpy(), np.int64)


def _judged(
    case: Case, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]
) -> tuple[Judged, list[tuple[Batch, Result]]]:
    """Run rows through the pipeline."""
    pieces = []
    for start in range(0, len(x), CHUNK):
        batch = Batch(torch.from_numpy(x[start : start + CHUNK]))
        pieces.append((batch, case.pipeline(batch, causes=False)))
    probabilities = torch.cat([outcome.prediction.probabilities for _, outcome in pieces])  # type: ignore[misc]
    confidence, label = probabilities.max(1)
    return Judged(x, confidence.double().numpy(), label.numpy() == y), pieces


@torch.inference_mode()
def _observe(case: Case, pieces: Sequence[tuple[Batch, Result]]) -> float:
    """Let the monitor judge a window, and give the seconds of this process's CPU."""
    started = time.process_time()
    for batch, outcome in pieces:
        case.monitor.observe(batch, outcome)
    return time.process_time() - started


def _errors(
    found: Sequence[Found], figure: Callable[[npt.NDArray[np.float64]], float] = lambda each: float(each.mean())
) -> dict[str, float]:
    """Give the figure of the absolute errors in points, by method."""
    return {
        name: figure(np.array([100 * abs(each.estimates[name] - each.accuracy) for each in found]))
        for name in (found[0].estimates if found else ())
    }


def _verdicts(found: Sequence[Found]) -> dict[str, Any]:
    """Give the number of windows, the share of each verdict, and how often the interval holds the accuracy."""
    n = len(found)
    shares: dict[str, Any] = {v: sum(each.verdict == v for each in found) / n if n else None for v in VERDICTS}
    told = [each for each in found if each.verdict != "cannot_tell"]
    near = sum(abs(each.estimates[OWN] - each.accuracy) <= 0.01 for each in told)  # noqa: PLR2004 - one point
    return {
        "windows": n,
        **shares,
        "within 1 point if told": near / len(told) if told else None,
        "in the interval if told": sum(each.covered for each in told) / len(told) if told else None,
    }
