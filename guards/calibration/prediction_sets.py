"""Turns model output into predictions: calibrated probabilities with prediction sets, or values with intervals."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from guards.calibration.label_scores import CumulativeScores
from guards.calibration.residual_scale import ResidualScale
from guards.calibration.strata import Strata
from guards.sentences import named
from guards.types import ModelOutput, Prediction

__all__ = ["Classifier", "Measure", "Predictor", "Regressor", "coverage_rows"]

Measure = CumulativeScores | ResidualScale
"""What a nonconformity measure learns, if it learns anything."""


class Predictor(nn.Module, ABC):
    """Turns model output into predictions, calibrated on held-out labelled rows by split conformal prediction.

    ``nonconformity`` keeps the calibration rows' scores, sorted, so that the coverage may change at deploy time.
    ``radius`` is the ceil((n + 1) coverage)-th smallest score of n rows: the true label or value lies within it at that
    coverage. It is None without labelled rows, a number for all rows (), or one for each stratum (s + 1,), the last for
    rows of no stratum. ``pooled`` names the strata that have too few rows of their own, and so have the last radius.
    """

    nonconformity: Tensor
    radius: Tensor | None

    def __init__(self, nonconformity: Tensor, *, coverage: float, strata: Strata | None = None) -> None:
        """Keep ``nonconformity`` (n,), which is empty without labelled rows: predictions then have no sets.

        Raises:
            ValueError: n rows cannot support the coverage; the message says how many could.
        """
        super().__init__()
        self.register_buffer("nonconformity", torch.sort(nonconformity.float()).values)
        self.coverage, self.pooled = coverage, tuple[str, ...]()
        n = len(nonconformity)
        if n and coverage_rank(n, coverage) > n:
            raise ValueError(
                f"{n} labelled calibration rows cannot support a coverage of {coverage:g}: "
                f"give at least {coverage_rows(coverage)} rows, or a smaller coverage"
            )
        radius = self.nonconformity[coverage_rank(n, coverage) - 1].clone() if n else None
        if radius is not None and strata is not None:
            parts = [torch.sort(part.float()).values for part in strata.cut(nonconformity)]
            enough = [coverage_rank(len(part), coverage) <= len(part) for part in parts]
            own = [
                part[coverage_rank(len(part), coverage) - 1] if is_enough else radius
                for part, is_enough in zip(parts, enough, strict=True)
            ]
            self.pooled = tuple(name for name, is_enough in zip(strata.names, enough, strict=True) if not is_enough)
            radius = torch.stack([*own, radius])
        self.register_buffer("radius", radius, persistent=False)

    @property
    def randomised(self) -> bool:
        """Whether predictions depend on the rows' draws."""
        return False

    @property
    def notice(self) -> str | None:
        """A sentence about strata that have too few rows of their own; None if there are no such strata."""
        if not self.pooled:
            return None
        return (
            f"prediction_sets.by: {named(self.pooled, 10)} {'has' if len(self.pooled) == 1 else 'have'} fewer than "
            f"{coverage_rows(self.coverage)} labelled calibration rows: the threshold of all rows together is used "
            "there, which does not promise the coverage for these rows alone; give more of these rows"
        )

    @abstractmethod
    def forward(self, output: ModelOutput, draws: Tensor | None = None, stratum: Tensor | None = None) -> Prediction:
        """Turn one batch of model output into predictions.

        ``draws`` (n,) are the rows' uniform draws, without which a randomised set is the largest that a draw could
        give. ``stratum`` (n,) int64 is each row's stratum, if the rows are divided by what is known of them.
        """

    def _radius_of(self, stratum: Tensor | None) -> Tensor:
        """Give the radius of all rows (), or of each row (n,)."""
        assert self.radius is not None  # noqa: S101 - the callers have checked it
        return self.radius if stratum is None else self.radius[stratum]


class Classifier(Predictor):
    """Temperature-scaled softmax, and the set of labels whose nonconformity stays within the radius.

    The nonconformity of a label is 1 - probability (Sadinle, Lei & Wasserman 2019, "Least ambiguous set-valued
    classifiers"), or, with ``measure``, cumulative: APS and RAPS. The set covers the true label of an exchangeable row
    with probability in [coverage, coverage + 1 / (n + 1)]. If the model is right more often than the coverage demands,
    some sets are empty: such a row is unlike every label. If the strata are the labels themselves, each label has its
    own radius, and each label's rows are covered (Vovk 2012, "Conditional validity of inductive conformal predictors").
    Guo et al. 2017, "On calibration of modern neural networks".
    """

    def __init__(
        self,
        nonconformity: Tensor,
        *,
        coverage: float,
        temperature: float,
        measure: CumulativeScores | None = None,
        strata: Strata | None = None,
    ) -> None:
        super().__init__(nonconformity, coverage=coverage, strata=strata)
        self.temperature, self.measure = temperature, measure
        self._by_label = strata is not None and strata.are_labels
        # As tensors of the logits' type: torch would turn a number, or a tensor of another type, into one in each call.
        self._divisor, self._one = (torch.tensor(value, dtype=torch.float32) for value in (temperature, 1.0))

    @property
    def randomised(self) -> bool:
        """Whether predictions depend on the rows' draws."""
        return self.measure is not None and self.radius is not None

    def probabilities(self, logits: Tensor) -> Tensor:
        """Scale and normalise logits (n, k)."""
        return torch.softmax(logits / self._divisor, dim=1)

    def forward(self, output: ModelOutput, draws: Tensor | None = None, stratum: Tensor | None = None) -> Prediction:
        """Give probabilities, label and, if there are calibration rows, the prediction set."""
        probabilities = self.probabilities(output.logits)
        members = None
        if self.radius is not None:
            scores = self._one - probabilities if self.measure is None else self.measure(probabilities, draws)
            members = scores <= (self.radius[:-1] if self._by_label else self._radius_of(stratum)[..., None])
        return Prediction(probabilities, probabilities.argmax(1), members)

    @staticmethod
    def scores(
        logits: Tensor,
        y: Tensor,
        temperature: float,
        measure: CumulativeScores | None = None,
        draws: Tensor | None = None,
    ) -> Tensor:
        """Score labelled rows (n,): the nonconformity of the true label."""
        probabilities = torch.softmax(logits / temperature, dim=1)
        scores = 1 - probabilities if measure is None else measure(probabilities, draws)
        return scores.gather(1, y.long()[:, None])[:, 0]


class Regressor(Predictor):
    """The model's value, and an interval around it: the radius of residuals, in units of the row's ``measure`` if any.

    The interval covers the true value of an exchangeable row with probability in [coverage, coverage + 1 / (n + 1)].
    """

    def __init__(
        self,
        nonconformity: Tensor,
        *,
        coverage: float,
        measure: ResidualScale | None = None,
        strata: Strata | None = None,
    ) -> None:
        super().__init__(nonconformity, coverage=coverage, strata=strata)
        self.measure = measure

    def forward(self, output: ModelOutput, draws: Tensor | None = None, stratum: Tensor | None = None) -> Prediction:  # noqa: ARG002
        """Give the value and, if there are calibration rows, the interval."""
        value = output.logits[:, 0]
        if self.radius is None:
            return Prediction(value=value)
        half = self._radius_of(stratum)
        if self.measure is not None:
            half = half * self.measure(output.features)
        return Prediction(value=value, interval=torch.stack([value - half, value + half], dim=1))

    @staticmethod
    def scores(logits: Tensor, y: Tensor, scale: Tensor | None = None) -> Tensor:
        """Score labelled rows (n,): the absolute residual, in units of the row's ``scale`` (n,) if there is one."""
        residual = (logits[:, 0] - y.float()).abs()
        return residual if scale is None else residual / scale


def coverage_rank(rows: int, coverage: float) -> int:
    """Give the rank of the radius among the scores of so many rows; a rank beyond the last says: too few rows."""
    return math.ceil((rows + 1) * coverage - 1e-9)


def coverage_rows(coverage: float) -> int:
    """Count the labelled calibration rows that a coverage needs.

    >>> coverage_rows(0.9)
    9
    """
    return math.ceil(coverage / (1 - coverage) - 1e-9)
