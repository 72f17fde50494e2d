"""The temperature that divides a classifier's logits, and the held-out rows that it is fitted on."""

import math

import torch
from torch import Tensor, nn

__all__ = ["fit_temperature", "temperature_rows"]

TUNING_SHARE, TUNING_ROWS = 0.2, 2000


def temperature_rows(heldout: int) -> int:
    """Give how many of a classifier's ``heldout`` labelled rows the temperature is fitted on.

    The other rows are calibration rows.
    """
    return min(TUNING_ROWS, int(TUNING_SHARE * heldout))


def fit_temperature(logits: Tensor, y: Tensor, *, iterations: int = 60) -> float:
    """Find the temperature in [0.05, 20] that minimises the negative log likelihood of labelled rows.

    The targets are smoothed by 1 / (n + 2), as in Platt 1999: if a model makes no error on n rows, the likelihood alone
    would make the model certain of every answer. The loss is convex in the inverse temperature, so a golden-section
    search over the logarithm of the temperature is exact.
    """
    logits, y = logits.detach().double(), y.long()
    n, k = logits.shape
    doubt = 1 / (n + 2)
    targets = torch.full_like(logits, doubt / (k - 1)).scatter_(1, y[:, None], 1 - doubt)

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(logits / math.exp(log_temperature), targets))

    low, high = math.log(0.05), math.log(20.0)
    golden = (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(iterations):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)
