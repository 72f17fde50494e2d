"""Compares calibration rows with other calibration rows: a stand-in for rows that no step has seen."""

import numpy as np
import torch
from torch import Tensor

from guards.calibration.p_values import Calibration

__all__ = ["FOLDS", "p_values_across"]

FOLDS = 5


def p_values_across(scores: Tensor, *, seed: int) -> Tensor:
    """Give p-values (g, n) of scores (g, n), each from the rows of the other folds."""
    found = torch.ones(scores.shape, dtype=torch.float64)
    for inside in _folds(scores.shape[1], seed):
        for guard, others in enumerate(scores[:, ~inside]):
            ranks = Calibration.from_scores(others).rank(scores[guard, inside])
            found[guard, inside] = ranks.double() / (len(others) + 1)
    return found


def _folds(n: int, seed: int) -> list[Tensor]:
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    return [torch.from_numpy(fold == k) for k in range(FOLDS)]
