"""Turns model output into predictions: calibrated probabilities with prediction sets, or values with intervals."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from guards.types import ModelOutput, Prediction

__all__ = ["Classifier", "Predictor", "Regressor", "coverage_rows", "fit_temperature", "temperature_rows"]

TUNING_SHARE, TUNING_ROWS = 0.2, 2000


class Predictor(nn.Module, ABC):
    """Turns model output into predictions, calibrated on held-out labelled rows by split conformal prediction.

    ``nonconformity`` keeps the calibration rows' scores, sorted, so that the coverage may change at deploy time.
    """

    nonconformity: Tensor

    def __init__(self, nonconformity: Tensor, *, coverage: float) -> None:
        """Keep ``nonconformity`` (n,), which is empty without labelled rows: predictions then have no sets.

        Raises:
            ValueError: n rows cannot support the coverage; the message says how many could.
        """
        super().__init__()
        self.register_buffer("nonconformity", torch.sort(nonconformity.float()).values)
        self.coverage = coverage
        n = len(nonconformity)
        position = math.ceil((n + 1) * coverage - 1e-9)
        if n and position > n:
            raise ValueError(
                f"{n} labelled calibration rows cannot support a coverage of {coverage:g}: "
                f"give at least {coverage_rows(coverage)} rows, or a smaller coverage"
            )
        self.register_buffer("radius", self.nonconformity[position - 1].clone() if n else None, persistent=False)

    radius: Tensor | None
    """The ceil((n + 1) coverage)-th smallest nonconformity: the true label or value lies within it at that coverage."""

    @abstractmethod
    def forward(self, output: ModelOutput) -> Prediction:
        """Turn one batch of model output into predictions."""


class Classifier(Predictor):
    """Temperature-scaled softmax, and the set of labels whose 1 - probability stays within the radius.

    The set covers the true label of an exchangeable row with probability in [coverage, coverage + 1 / (n + 1)]. If the
    model is right more often than the coverage demands, some sets are empty: such a row is unlike every label.
    Guo et al. 2017, "On calibration of modern neural networks"; Sadinle, Lei & Wasserman 2019, "Least ambiguous
    set-valued classifiers".
    """

    def __init__(self, nonconformity: Tensor, *, coverage: float, temperature: float) -> None:
        super().__init__(nonconformity, coverage=coverage)
        self.temperature = temperature
        # As tensors of the logits' type: torch would turn a number, or a tensor of another type, into one in each call.
        self._divisor, self._one = (torch.tensor(value, dtype=torch.float32) for value in (temperature, 1.0))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Scale and normalise logits (n, k)."""
        return torch.softmax(logits / self._divisor, dim=1)

    def forward(self, output: ModelOutput) -> Prediction:
        """Give probabilities, label and, if there are calibration rows, the prediction set."""
        probabilities = self.probabilities(output.logits)
        members = None if self.radius is None else self._one - probabilities <= self.radius
        return Prediction(probabilities, probabilities.argmax(1), members)

    @staticmethod
    def scores(logits: Tensor, y: Tensor, temperature: float) -> Tensor:
        """Score labelled rows: one minus the probability of the true label."""
        probabilities = torch.softmax(logits / temperature, dim=1)
        return 1 - probabilities.gather(1, y.long()[:, None])[:, 0]


class Regressor(Predictor):
    """The model's value, and the interval of absolute residuals around it."""

    def forward(self, output: ModelOutput) -> Prediction:
        """Give the value and, if there are calibration rows, the interval."""
        value = output.logits[:, 0]
        interval = None if self.radius is None else torch.stack([value - self.radius, value + self.radius], dim=1)
        return Prediction(value=value, interval=interval)

    @staticmethod
    def scores(logits: Tensor, y: Tensor) -> Tensor:
        """Score labelled rows: the absolute residual."""
        return (logits[:, 0] - y.float()).abs()


def coverage_rows(coverage: float) -> int:
    """Count the labelled calibration rows that a coverage needs.

    >>> coverage_rows(0.9)
    9
    """
    return math.ceil(coverage / (1 - coverage) - 1e-9)


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
