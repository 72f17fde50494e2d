"""Prediction sets over many splits: coverage, size, coverage of the worst class, and the calibration error."""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.confidence.pools import Pool
from guards.calibration.label_scores import CumulativeScores
from guards.calibration.prediction_sets import Classifier
from guards.calibration.strata import Strata
from guards.calibration.temperature import fit_temperature
from guards.types import ModelOutput

__all__ = ["ASIDE", "set_figures", "split"]

COVERAGE, NEAR = 0.9, 0.01
ASIDE, CALIBRATION, FRESH, BINS = 1000, 5000, 5000, 15
METHODS = ("least", "aps", "raps")


def split(rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut rows at random into rows set aside, calibration rows and fresh rows; a small pool is cut 1 : 4 : 5."""
    sizes = (
        (ASIDE, CALIBRATION, FRESH) if rows >= ASIDE + CALIBRATION + FRESH else (rows // 10, 2 * rows // 5, rows // 2)
    )
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    aside, calibration, fresh, _ = torch.split(order, [*sizes, rows - sum(sizes)])
    return aside, calibration, fresh


def set_figures(pool: Pool, *, splits: int) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Measure every method, pooled and by class, and the expected calibration error of the confidence."""
    classes = pool.logits.shape[1]
    found: dict[str, list[Tensor]] = {}
    errors, raw, chance = [], [], []
    for seed in range(splits):
        parts = split(len(pool.y), seed)
        aside, calibration, fresh = parts
        temperature = fit_temperature(pool.logits[aside], pool.y[aside])
        draws = torch.rand(len(pool.y), generator=torch.Generator().manual_seed(seed))
        rest = torch.ones(len(pool.y), dtype=torch.bool).index_fill_(0, aside, 0)
        confidence, right = _confidence(pool.logits[rest] / temperature, pool.y[rest])
        errors.append(calibration_error(confidence, right))
        raw.append(calibration_error(*_confidence(pool.logits[rest], pool.y[rest])))
        chance.append(calibration_error(confidence, draws[rest] < confidence))
        for name, classifier in _classifiers(pool, aside, calibration, draws, temperature):
            members = classifier(ModelOutput(pool.logits[fresh], pool.logits[fresh]), draws[fresh]).members
            assert members is not None  # noqa: S101 - the calibration rows have labels
            y = pool.y[fresh]
            held = members.gather(1, y[:, None])[:, 0].double()
            by_class = torch.zeros(classes, dtype=torch.float64).scatter_add_(0, y, held) / y.bincount(
                minlength=classes
            )
            sizes = members.sum(1).double()
            figures = torch.stack([held.mean(), sizes.mean(), (sizes == 0).double().mean()])
            found.setdefault(name, []).append(torch.cat([figures, by_class]))
    table = {}
    for name, each in found.items():
        all_splits = torch.stack(each)
        mean = all_splits.mean(0)
        table[name] = {
            "coverage": float(mean[0]),
            f"splits within {NEAR:.0%}": float(((all_splits[:, 0] - COVERAGE).abs() <= NEAR).double().mean()),
            "mean size": float(mean[1]),
            "empty": float(mean[2]),
            "worst class": float(mean[3:].min()),
        }
    accuracy = float((pool.logits.argmax(1) == pool.y).double().mean())
    error = {
        "accuracy": accuracy,
        "ece": sum(errors) / splits,
        "ece without temperature": sum(raw) / splits,
        "ece of perfect confidence": sum(chance) / splits,
    }
    return table, error


def _classifiers(
    pool: Pool, aside: Tensor, calibration: Tensor, draws: Tensor, temperature: float
) -> Iterator[tuple[str, Classifier]]:
    y = pool.y[calibration]
    for method in METHODS:
        measure = None if method == "least" else CumulativeScores()
        if method == "raps":
            probabilities = (pool.logits[aside] / temperature).softmax(1)
            measure = CumulativeScores.regularised(probabilities, pool.y[aside], draws[aside], COVERAGE)
        scores = Classifier.scores(pool.logits[calibration], y, temperature, measure, draws[calibration])
        names = tuple(map(str, range(pool.logits.shape[1])))
        for name, strata in ((method, None), (f"{method} by class", Strata(names, y, are_labels=True))):
            yield name, Classifier(scores, coverage=COVERAGE, temperature=temperature, measure=measure, strata=strata)


def _confidence(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give the largest probability of each row (n,), and whether its label is right (n,)."""
    confidence, label = logits.softmax(1).max(1)
    return confidence, label == y


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Give the expected calibration error of the confidence, in 15 bins of equal width.

    Guo et al. 2017, "On calibration of modern neural networks". Chance alone makes the error greater than 0: see the
    error of perfect confidence, where a row is right with the probability that its confidence says.
    """
    place = (confidence * BINS).long().clamp(max=BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, right.double() - confidence.double())
    return float(gap.abs().sum()) / len(right)
