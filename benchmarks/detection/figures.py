"""How well detectors tell suspects from clean rows at the threshold of the calibration rows, and what they cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.detection.case import Case
from guards.calibration.p_values import Calibration
from guards.config.plugins import registered
from guards.detectors.base import Detector
from guards.detectors.gaussian import USUAL_EARLY, Gaussian, GaussianParams
from guards.statistics.proportions import proportion
from guards.types import Batch, ModelOutput

__all__ = ["DETECTORS", "Scorer", "ablations", "costs", "detectors", "judged", "mean_of"]

DETECTORS = ("gaussian", "mahalanobis", "knn", "energy", "fdbd", "gen", "confidence")
OF_IMAGES = ("squeeze",)
LEVELS = (0.01, 0.05)
ROWS, ROUNDS = 32, 50
Scorer = Callable[[Batch], Tensor]


def detectors(case: Case) -> dict[str, Scorer]:
    """Fit every detector that judges such rows, each with its defaults."""
    names = (*DETECTORS, *(OF_IMAGES if case.reference.schema.kind == "image" else ()))
    kinds = {name: cast("type[Detector]", registered("detectors")[name]) for name in names}
    return {
        name: kind(kind.Params.model_validate({"kind": name})).fit(case.reference).score for name, kind in kinds.items()
    }


def ablations(case: Case) -> dict[str, Scorer]:
    """Fit the gaussian detector, and combine its surprises in other ways: without a part, or by another rule."""
    gaussian = Gaussian(GaussianParams()).fit(case.reference)

    def parts(batch: Batch) -> Tensor:
        surprise = _surprises(gaussian, batch)
        return torch.stack([surprise[:, :3].mean(1), surprise[:, 3:5].mean(1), surprise[:, 5]], dim=1)

    def last(batch: Batch) -> Tensor:
        return parts(batch)[:, :2].mean(1)

    def beyond(batch: Batch) -> Tensor:
        return (parts(batch)[:, 2] - USUAL_EARLY).clamp_min(0)

    def view(index: int) -> Scorer:
        return lambda batch: _surprises(gaussian, batch)[:, index]

    return {
        "all": gaussian.score,
        "without rows between classes": lambda batch: parts(batch)[:, 1] + beyond(batch),
        "without rows far from classes": lambda batch: parts(batch)[:, 0] + beyond(batch),
        "without early layer": last,
        "early layer counts in full": lambda batch: last(batch) + parts(batch)[:, 2],
        "root mean square of parts": lambda batch: parts(batch).square().sum(1).sqrt(),
        "largest part": lambda batch: parts(batch).amax(1),
        "mean of parts": lambda batch: parts(batch).mean(1),
        **{f"view: {name}": view(index) for index, name in enumerate(gaussian.cause_names())},
    }


@torch.inference_mode()
def judged(case: Case, scorers: Mapping[str, Scorer]) -> dict[str, dict[str, dict[str, float]]]:
    """Judge each set of suspects by each scorer: AUROC, FPR at 95 % TPR, and TPR at 1 % and 5 % calibrated rows."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, scorer in scorers.items():
        clean, calibration = scorer(case.clean), Calibration.from_scores(scorer(case.calibration))
        p_clean = calibration.p_value(clean)
        found[name] = {"clean": {f"false alarms at {level:g}": _share(p_clean <= level) for level in LEVELS}}
        found[name]["clean"]["rows"] = float(len(clean))
        for suspects, rows in case.suspects.items():
            score = scorer(rows)
            p = calibration.p_value(score)
            truth = torch.cat([torch.zeros(len(clean)), torch.ones(len(score))])
            found[name][suspects] = {
                "AUROC": float(roc_auc_score(truth, torch.cat([clean, score]))),
                "FPR95": _share(clean >= score.quantile(0.05)),
                **{f"TPR at {level:g}": _share(p <= level) for level in LEVELS},
            }
    return found


def mean_of(found: Sequence[dict[str, dict[str, dict[str, float]]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Average the figures of several cases; false alarms are pooled, with their 95 % interval."""
    averaged: dict[str, dict[str, dict[str, Any]]] = {}
    for name, sets in found[0].items():
        averaged[name] = {}
        for suspects, figures in sets.items():
            each = [one[name][suspects] for one in found]
            averaged[name][suspects] = {key: sum(one[key] for one in each) / len(each) for key in figures}
        rows = round(sum(one[name]["clean"]["rows"] for one in found))
        for level in LEVELS:
            key = f"false alarms at {level:g}"
            hits = round(sum(one[name]["clean"][key] * one[name]["clean"]["rows"] for one in found))
            share = proportion(hits, rows)
            averaged[name]["clean"] |= {key: share.value, f"{key}, interval": [share.low, share.high]}
        averaged[name]["clean"]["rows"] = rows
    return averaged


@torch.inference_mode()
def costs(case: Case, scorers: Mapping[str, Scorer]) -> dict[str, float]:
    """Measure the processor time of each scorer in batches of 32, in microseconds a row: the median of rounds.

    The time of the model is not part of it, and neither is that of the views, which ride in the model's pass.
    """
    batch = case.clean[:ROWS]
    assert batch.output is not None  # noqa: S101
    fixed = Batch(batch.x, output=_copy(batch.output))
    spent: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(ROUNDS):
        for name, scorer in scorers.items():
            started = time.thread_time()
            for _ in range(10):
                scorer(fixed)
            spent[name].append((time.thread_time() - started) / (10 * len(fixed)) * 1e6)
    return {name: sorted(each)[len(each) // 2] for name, each in spent.items()}


def _surprises(gaussian: Gaussian, batch: Batch) -> Tensor:
    assert batch.output is not None  # noqa: S101
    return gaussian.surprises(batch.output)


def _copy(output: ModelOutput) -> ModelOutput:
    parts = (output.logits, output.features, output.early, output.views)
    return ModelOutput(*(None if part is None else part.clone() for part in parts))  # type: ignore[arg-type]


def _share(marked: Tensor) -> float:
    return float(marked.double().mean())
