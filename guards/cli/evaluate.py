"""``guardhouse evaluate``: what the fitted guards make of rows of the user's choice."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor

from guards.bundle.batches import batches_of
from guards.bundle.bundle import Bundle
from guards.cli.answering import Answering, answering, show_answering
from guards.cli.detection import Detection, Interval, detection, nothing
from guards.data.row_parts import unlabelled_rows
from guards.data.rows import load_rows
from guards.data.value_spread import compare_spread
from guards.model.chunked_run import refusing
from guards.monitors.groups.monitor import of_requests
from guards.notices import Notices
from guards.pipeline import Pipeline
from guards.statistics.explained_variance import r2
from guards.statistics.proportions import proportion
from guards.types import Result, Rows

__all__ = ["Evaluation", "detections", "evaluate", "show"]

Floats = npt.NDArray[np.float64]
LARGEST = float(np.finfo(np.float64).max)


class Evaluation(TypedDict):
    """The JSON document of ``evaluate --json``, with a 95 % interval beside each figure.

    ``r2`` is None for a classification, ``accuracy`` for a regression.
    """

    rows: dict[str, int]
    accuracy: float | None
    accuracy_interval: Interval | None
    r2: float | None
    r2_interval: Interval | None
    coverage: float | None
    coverage_interval: Interval | None
    guards: dict[str, Detection]
    any: Detection
    abstention: dict[str, Answering]


def evaluate(bundle: Bundle, clean: Path, suspect: Path | None, notices: Notices | None = None) -> Evaluation:
    """Run the clean and the suspect file through the pipeline, and measure the guards and the model.

    Raises:
        Mistake: a file does not fit the bundle.
    """
    pipeline = bundle.pipeline()
    told, schema = Notices() if notices is None else notices, bundle.schema
    rows = load_rows(clean, bundle.config, schema, bundle.classes, told)
    by = of_requests(bundle.monitors).get(bundle.config.prediction_sets.by)
    if by is not None and by.request not in rows.groups:
        told.warn(
            f"{clean}: it has no group {by.request!r}, by which prediction sets are made, so its rows get the sets of "
            f"rows of no group: add group_{by.request}"
        )
    compare_spread(rows, schema.spread, kind=schema.kind, path=clean, notices=told)
    strange = None if suspect is None else unlabelled_rows(suspect, bundle.config, schema, told)
    runs = [_run(bundle, pipeline, part) for part in ([rows] if strange is None else [rows, strange])]
    quality = _quality(bundle, rows, runs[0])
    guards, any_guard = detections(bundle, runs)
    return {
        "rows": {"clean": len(rows), "suspect": 0 if strange is None else len(strange)},
        **quality,
        "guards": guards,
        "any": any_guard,
        "abstention": answering(bundle, rows, runs[0]),
    }


def detections(bundle: Bundle, runs: Sequence[Sequence[Result]]) -> tuple[dict[str, Detection], Detection]:
    """Measure each guard, and any of them, on the results of clean rows, and of suspect rows if there are two runs."""
    specs, shared = bundle.config.guards, list(bundle.config.budgeted)
    if not specs:
        return {}, nothing()
    scores = [np.nan_to_num(_stack(run, "score"), nan=LARGEST, posinf=LARGEST) for run in runs]
    flags = [_stack(run, "flagged") > 0 for run in runs]
    found = {spec.name: _detection([s[i] for s in scores], [f[i] for f in flags]) for i, spec in enumerate(specs)}
    if not shared:
        return found, nothing()
    shares = np.array([specs[place].share for place in shared])[:, None]
    joint = [-(np.nan_to_num(_stack(run, "p_value")[shared], nan=1.0) * shares.sum() / shares).min(0) for run in runs]
    return found, _detection(joint, [np.logical_or.reduce(each[shared]) for each in flags])


def _run(bundle: Bundle, pipeline: Pipeline, rows: Rows) -> list[Result]:
    results = []
    for batch in batches_of(bundle, rows):
        with refusing(bundle.model, batch.x):
            results.append(pipeline(batch))
    return results


def _stack(run: Sequence[Result], name: str) -> Floats:
    return torch.cat([getattr(result.verdict, name) for result in run], dim=1).double().cpu().numpy()


class _Quality(TypedDict):
    """How good the predictions are; None if the labels or the model's task do not allow a figure."""

    accuracy: float | None
    accuracy_interval: Interval | None
    r2: float | None
    r2_interval: Interval | None
    coverage: float | None
    coverage_interval: Interval | None


def _quality(bundle: Bundle, rows: Rows, run: list[Result]) -> _Quality:
    found: _Quality = {
        "accuracy": None, "accuracy_interval": None, "r2": None, "r2_interval": None,
        "coverage": None, "coverage_interval": None,
    }  # fmt: skip
    if rows.y is None:
        return found
    y = rows.y.to(bundle.model.device)
    predictions = [result.prediction for result in run]
    covered = None
    if bundle.classes:
        label = torch.cat([p.label for p in predictions if p.label is not None])
        members = [p.members for p in predictions if p.members is not None]
        covered = torch.cat(members).gather(1, y.long()[:, None]) if members else None
        found["accuracy"], found["accuracy_interval"] = _share(label == y)
    else:
        value = torch.cat([p.value for p in predictions if p.value is not None]).double()
        intervals = [p.interval for p in predictions if p.interval is not None]
        if intervals:
            low, high = torch.cat(intervals).unbind(1)
            covered = (low <= y) & (y <= high)
        explained = r2(y.double().cpu().numpy(), value.cpu().numpy())
        if explained is not None:
            found["r2"], found["r2_interval"] = explained.value, explained.interval
    if covered is not None:
        found["coverage"], found["coverage_interval"] = _share(covered)
    return found


def _share(hits: Tensor) -> tuple[float, Interval]:
    share = proportion(int(hits.sum()), hits.numel())
    return share.value, share.interval


def _detection(scores: list[Floats], flags: list[npt.NDArray[np.bool_]]) -> Detection:
    strange = len(scores) > 1
    return detection(scores[0], scores[1] if strange else None, flags[0], flags[1] if strange else None)


def show(result: Evaluation, console: Console) -> None:
    """Print an evaluation for people: each figure, and below the figure its 95 % interval."""
    rows = result["rows"]
    title = f"{rows['clean']} clean rows, {rows['suspect']} suspect rows; below each figure its 95 % interval"
    grid = Grid(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("guard", "AUROC", "AUPR", "FPR@95", "TPR", "false alarms"):
        grid.add_column(name, justify="left" if name == "guard" else "right", no_wrap=name != "guard", overflow="fold")
    for name, found in [*result["guards"].items(), ("any", result["any"])]:
        grid.add_row(
            name,
            _cell(found["auroc"], found["auroc_interval"]),
            _cell(found["aupr"], found["aupr_interval"]),
            _cell(found["fpr_at_95_tpr"], found["fpr_at_95_tpr_interval"]),
            _cell(found["tpr"], found["tpr_interval"]),
            _cell(found["false_alarm_rate"], found["false_alarm_interval"], ".2%"),
        )
    console.print(grid)
    show_answering(result["abstention"], console)
    for name, value, interval in (
        ("accuracy", result["accuracy"], result["accuracy_interval"]),
        ("R2", result["r2"], result["r2_interval"]),
        ("coverage", result["coverage"], result["coverage_interval"]),
    ):
        if value is not None and interval is not None:
            between = f"[{interval[0]:.4f}, {interval[1]:.4f}]"
            console.print(f"{name} of the clean rows: {value:.4f} {between}", highlight=False, markup=False)


def _cell(value: float | None, interval: Interval | None, digits: str = ".3f") -> str:
    if value is None or interval is None:
        return ""
    return f"{value:{digits}}\n{interval[0]:{digits}}-{interval[1]:{digits}}"
