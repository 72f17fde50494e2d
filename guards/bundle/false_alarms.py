"""Measures the false-alarm rates of the closing table on calibration rows that the thresholds do not depend on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guards.calibration.budget import Budget
from guards.calibration.p_values import Calibration
from guards.config.config import Config

__all__ = ["FalseAlarms", "GuardReport", "false_alarms", "measure"]

FOLDS = 5


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """How many clean rows were flagged, out of ``rows`` rows that the thresholds do not depend on."""

    flagged: int
    rows: int


@dataclass(frozen=True, slots=True)
class GuardReport:
    """One line of the closing table; ``false_alarms`` is None if there are too few rows to measure the rate."""

    name: str
    share: float
    threshold: float
    false_alarms: FalseAlarms | None


def false_alarms(scores: Tensor, config: Config) -> tuple[list[FalseAlarms], FalseAlarms] | None:
    """Count the flagged rows of clean ``scores`` (g, n) in each fold, under thresholds from the other folds.

    Gives one count for each guard and one for all guards together, or None if the other folds have too few rows for
    the budget.
    """
    n = scores.shape[1]
    fold = torch.arange(n) % FOLDS
    fold = fold[torch.randperm(n, generator=torch.Generator().manual_seed(config.reference.seed))]
    flagged = torch.zeros(scores.shape, dtype=torch.bool)
    for k in range(FOLDS):
        inside = fold == k
        others = scores[:, ~inside]
        try:
            budget = Budget(
                scores=others,
                shares=[spec.share for spec in config.guards],
                budget=config.false_alarm_budget,
                guarantee=config.guarantee,
            )
        except ValueError:
            return None
        for guard, rank in enumerate(budget.ranks):
            flagged[guard, inside] = Calibration.from_scores(others[guard]).rank(scores[guard, inside]) <= rank
    return [FalseAlarms(int(row.sum()), n) for row in flagged], FalseAlarms(int(flagged.any(0).sum()), n)


def measure(
    scores: Tensor, config: Config, thresholds: Sequence[float]
) -> tuple[tuple[GuardReport, ...], FalseAlarms | None]:
    """Measure each guard, and all guards together, on rows that their thresholds do not depend on."""
    if not config.guards:
        return (), None
    measured = false_alarms(scores, config)
    total = sum(spec.share for spec in config.guards)
    reports = tuple(
        GuardReport(spec.name, spec.share / total, threshold, None if measured is None else measured[0][index])
        for index, (spec, threshold) in enumerate(zip(config.guards, thresholds, strict=True))
    )
    return reports, None if measured is None else measured[1]
