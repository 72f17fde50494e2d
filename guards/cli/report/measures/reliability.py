"""Compares confidence with accuracy: the bins of a reliability diagram, and the expected calibration error."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guards.statistics.proportions import Proportion, proportion

__all__ = ["Reliability", "reliability"]

Floats = npt.NDArray[np.float64]
MOST_BINS, FEWEST_BINS, ROWS_A_BIN = 15, 4, 30
DRAWS = 1000
LEVELS = (0.025, 0.975)


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Bins with the same number of rows: mean ``confidence`` (b,) and ``accuracy`` of each bin.

    ``error`` is the expected calibration error with its bootstrap ``interval``. ``by_chance`` are the 2.5 % and the
    97.5 % quantile of this error for a perfectly calibrated model with the same confidences: the error of few rows is
    never 0. ``excess`` is the mean confidence minus the accuracy: above 0 the model is too sure.
    """

    confidence: Floats
    accuracy: tuple[Proportion, ...]
    error: float
    interval: tuple[float, float]
    by_chance: tuple[float, float]
    excess: float


def reliability(confidence: Floats, right: npt.NDArray[np.bool_], *, seed: int) -> Reliability:
    """Measure how far the confidence (n,) of answers is from the share of answers that are ``right`` (n,).

    Bins of equal numbers of rows: Nixon et al. 2019, "Measuring calibration in deep learning". The error by chance:
    Vaicenavicius et al. 2019, "Evaluating model calibration in classification".
    """
    n = len(confidence)
    bins = int(np.clip(n // ROWS_A_BIN, min(FEWEST_BINS, n), MOST_BINS))
    order = np.argsort(confidence, kind="stable")
    sure, hit = confidence[order], right[order].astype(np.float64)
    edges = np.linspace(0, n, bins + 1).astype(int)
    rows = np.diff(edges).astype(np.float64)
    rng = np.random.default_rng(seed)
    again = [_resampled_error(sure, hit, bins, rng) for _ in range(DRAWS)]
    chance = [_error(sure, (rng.random(n) < sure).astype(np.float64), edges) for _ in range(DRAWS)]
    low, high = np.quantile(again, LEVELS)
    return Reliability(
        confidence=np.add.reduceat(sure, edges[:-1]) / rows,
        accuracy=tuple(
            proportion(int(hits), int(count))
            for hits, count in zip(np.add.reduceat(hit, edges[:-1]), rows, strict=True)
        ),
        error=_error(sure, hit, edges),
        interval=(float(low), float(high)),
        by_chance=(float(np.quantile(chance, LEVELS[0])), float(np.quantile(chance, LEVELS[1]))),
        excess=float((sure - hit).mean()),
    )


def _error(confidence: Floats, right: Floats, edges: npt.NDArray[np.int64]) -> float:
    """Sum the bins' distances between accuracy and confidence, each weighted by its share of the rows."""
    return float(np.abs(np.add.reduceat(confidence - right, edges[:-1])).sum() / len(right))


def _resampled_error(confidence: Floats, right: Floats, bins: int, rng: np.random.Generator) -> float:
    """Measure the error of as many rows, drawn with replacement; sorted places keep the confidence sorted."""
    drawn = np.sort(rng.integers(len(right), size=len(right)))
    return _error(confidence[drawn], right[drawn], np.linspace(0, len(right), bins + 1).astype(int))
