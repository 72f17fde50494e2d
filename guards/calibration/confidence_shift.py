"""Calibrates confidence on average: moves its log odds until its mean is the accuracy on held-out rows."""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["fit_shift", "move_log_odds"]

EDGE, WIDEST = 1e-9, 10.0


def move_log_odds(confidence: npt.NDArray[np.float64], shift: float) -> npt.NDArray[np.float64]:
    """Move the log odds of each confidence (n,); NaN stays NaN."""
    if not shift:
        return confidence
    odds = np.clip(confidence, EDGE, 1 - EDGE)
    return np.asarray(1 / (1 + (1 - odds) / odds * math.exp(-shift)))


def fit_shift(confidence: npt.NDArray[np.float64], accuracy: float) -> float:
    """Find by bisection the move of the log odds after which the mean confidence is ``accuracy``.

    >>> round(fit_shift(np.array([0.5, 0.5]), 0.75), 4) == round(math.log(3), 4)
    True
    """
    low, high = -WIDEST, WIDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.nanmean(move_log_odds(confidence, middle)) < accuracy else (low, middle)
    return (low + high) / 2
