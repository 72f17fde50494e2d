"""``guardhouse evaluate``: what the fitted guards make of rows of the user's choice."""

from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table as Grid
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from guards.bundle.batches import batches_of
from guards.bundle.bundle import Bundle
from guards.data.rows import load_rows
from guards.data.value_spread import compare_spread
from guards.model.chunked_run import refusing
from guards.monitors.groups.monitor import of_requests
from guards.notices import Notices
from guards.pipeline import Pipeline
from guards.statistics.proportions import proportion
from guards.types import Result, Rows

__all__ = ["Detection", "Evaluation", "evaluate", "show"]

Floats = npt.NDArray[np.float64]
LARGEST = float(np.finfo(np.float64).max)


class Detection(TypedDict):
    """How well one guard, or any of them, tells suspect rows from clean rows; None if a figure cannot be measured."""

    auroc: float | None
    aupr: float | None
    fpr_at_95_tpr: float | None
    tpr: float | None
    false_alarm_rate: float | None
    false_alarm_interval: tuple[float, float] | None


class Answering(TypedDict):
    """What a guard with a `target_error` does to clean rows: the share answered, and the error rate among these.

    ``error`` and its 95 % interval are None without labels or answered rows.
    """

    target_error: float
    answered: float
    error: float | None
    error_interval: tuple[float, float] | None


class Evaluation(TypedDict):
    """The JSON document of ``evaluate --json``; ``r2`` is None for a classification, ``accuracy`` for a regression."""

    rows: dict[str, int]
    accuracy: float | None
    r2: float | None
    coverage: float | None
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
    strange = None if suspect is None else load_rows(suspect, bundle.config, schema, bundle.classes, told)
    runs = [_run(bundle, pipeline, part) for part in ([rows] if strange is None else [rows, strange])]
    accuracy, r2, coverage = _quality(bundle, rows, runs[0])
    shared = list(bundle.config.budgeted)
    total = sum(bundle.config.guards[place].share for place in shared)
    weights = np.array([bundle.config.guards[place].share / total for place in shared])[:, None]
    names = [guard.name for guard in pipeline.guards]
    scores = [np.nan_to_num(_stack(run, "score"), nan=LARGEST, posinf=LARGEST) for run in runs]
    joint = [-(np.nan_to_num(_stack(run, "p_value")[shared], nan=1.0) / weights).min(0) for run in runs if shared]
    flags = [_stack(run, "flagged") > 0 for run in runs]
    any_flag = [np.logical_or.reduce(f[shared]) for f in flags] if shared else []
    return {
        "rows": {"clean": len(rows), "suspect": 0 if strange is None else len(strange)},
        "accuracy": accuracy,
        "r2": r2,
        "coverage": coverage,
        "guards": {name: _detection([s[i] for s in scores], [f[i] for f in flags]) for i, name in enumerate(names)},
        "any": _detection(joint, any_flag),
        "abstention": {
            spec.name: _answering(spec.target_error, ~flags[0][place], _wrong(rows, runs[0]))
            for place, spec in enumerate(bundle.config.guards)
            if spec.target_error is not None
        },
    }


def _run(bundle: Bundle, pipeline: Pipeline, rows: Rows) -> list[Result]:
    results = []
    for batch in batches_of(bundle, rows):
        with refusing(bundle.model, batch.x):
            results.append(pipeline(batch))
    return results


def _stack(run: list[Result], name: str) -> Floats:
    return torch.cat([getattr(result.verdict, name) for result in run], dim=1).double().cpu().numpy()


def _quality(bundle: Bundle, rows: Rows, run: list[Result]) -> tuple[float | None, float | None, float | None]:
    """Give accuracy, R2 and coverage; each is None if the labels or the model's task do not allow it."""
    if rows.y is None:
        return None, None, None
    y = rows.y.to(bundle.model.device)
    predictions = [result.prediction for result in run]
    if bundle.classes:
        label = torch.cat([p.label for p in predictions if p.label is not None])
        members = [p.members for p in predictions if p.members is not None]
        covered = torch.cat(members).gather(1, y.long()[:, None]).double().mean().item() if members else None
        return (label == y).double().mean().item(), None, covered
    value = torch.cat([p.value for p in predictions if p.value is not None]).double()
    intervals = [p.interval for p in predictions if p.interval is not None]
    covered = None
    if intervals:
        low, high = torch.cat(intervals).unbind(1)
        covered = ((low <= y) & (y <= high)).double().mean().item()
    spread = ((y - y.double().mean()) ** 2).sum()
    return None, (1 - ((y - value) ** 2).sum() / spread).item() if spread > 0 else None, covered


def _detection(scores: list[Floats], flags: list[npt.NDArray[np.bool_]]) -> Detection:
    found: Detection = {
        "auroc": None, "aupr": None, "fpr_at_95_tpr": None, "tpr": None,
        "false_alarm_rate": None, "false_alarm_interval": None,
    }  # fmt: skip
    if not scores:
        return found
    share = proportion(int(flags[0].sum()), len(flags[0]))
    found["false_alarm_rate"], found["false_alarm_interval"] = share.value, (share.low, share.high)
    if len(scores) > 1:
        truth = np.repeat([0, 1], [len(part) for part in scores])
        values = np.concatenate(scores)
        fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
        found["auroc"] = float(roc_auc_score(truth, values))
        found["aupr"] = float(average_precision_score(truth, values))
        found["fpr_at_95_tpr"] = float(fpr[np.searchsorted(tpr, 0.95)])
        found["tpr"] = float(flags[1].mean())
    return found


def _wrong(rows: Rows, run: list[Result]) -> npt.NDArray[np.bool_] | None:
    """Return which rows (n,) have another label than the model says; None without labels."""
    if rows.y is None:
        return None
    labels = torch.cat([result.prediction.label for result in run if result.prediction.label is not None]).cpu()
    return (labels != rows.y.cpu()).numpy()


def _answering(target: float, answered: npt.NDArray[np.bool_], wrong: npt.NDArray[np.bool_] | None) -> Answering:
    share, error = float(answered.mean()), None
    if wrong is not None and answered.any():
        error = proportion(int((wrong & answered).sum()), int(answered.sum()))
    return {
        "target_error": target,
        "answered": share,
        "error": None if error is None else error.value,
        "error_interval": None if error is None else (error.low, error.high),
    }


def show(result: Evaluation, console: Console) -> None:
    """Print an evaluation for people."""
    rows = result["rows"]
    grid = Grid(title=f"{rows['clean']} clean rows, {rows['suspect']} suspect rows")
    for name in ("guard", "AUROC", "AUPR", "FPR@95", "TPR", "false alarms", "95 % interval"):
        grid.add_column(name, justify="left" if name == "guard" else "right", no_wrap=True)
    for name, found in [*result["guards"].items(), ("any", result["any"])]:
        interval = found["false_alarm_interval"]
        grid.add_row(
            name,
            _digits(found["auroc"]),
            _digits(found["aupr"]),
            _digits(found["fpr_at_95_tpr"]),
            _digits(found["tpr"]),
            _percent(found["false_alarm_rate"]),
            "" if interval is None else f"[{interval[0]:.2%}, {interval[1]:.2%}]",
        )
    console.print(grid)
    for name, answering in result["abstention"].items():
        interval = answering["error_interval"]
        wrong = "" if interval is None else f"; {_percent(answering['error'])} of these are wrong, 95 % interval "
        wrong += "" if interval is None else f"[{interval[0]:.2%}, {interval[1]:.2%}]"
        console.print(
            f"{name} answers {answering['answered']:.1%} of the clean rows{wrong} "
            f"(target_error {answering['target_error']:g})",
            highlight=False,
            markup=False,
        )
    for name, value in (("accuracy", result["accuracy"]), ("R2", result["r2"]), ("coverage", result["coverage"])):
        if value is not None:
            console.print(f"{name} of the clean rows: {value:.4f}", highlight=False)


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
