"""Measures the false-alarm rates of the closing table on calibration rows that the thresholds do not depend on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guards.bundle.construction import max_ranks
from guards.calibration.abstention import Abstention
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
    """One line of the closing table; ``false_alarms`` is None if there are too few rows to measure the rate.

    A guard with a `target_error` has no share of the budget and no false alarms; it has an ``abstention``.
    """

    name: str
    share: float
    threshold: float
    false_alarms: FalseAlarms | None
    abstention: Abstention | None = None


def false_alarms(scores: Tensor, config: Config) -> tuple[list[FalseAlarms], FalseAlarms] | None:
    """Count the flagged rows of clean ``scores`` (g, n) in each fold, under thresholds from the other folds.

    Gives one count for each guard and one for all guards that share the budget, or None if the other folds have too few
    rows for the budget.
    """
    n = scores.shape[1]
    fold = torch.arange(n) % FOLDS
    fold = fold[torch.randperm(n, generator=torch.Generator().manual_seed(config.reference.seed))]
    flagged = torch.zeros(scores.shape, dtype=torch.bool)
    for k in range(FOLDS):
        inside = fold == k
        others = scores[:, ~inside]
        try:
            ranks = max_ranks(config, others)
        except ValueError:
            return None
        for guard, rank in enumerate(ranks):
            flagged[guard, inside] = Calibration.from_scores(others[guard]).rank(scores[guard, inside]) <= rank
    return [FalseAlarms(int(row.sum()), n) for row in flagged], FalseAlarms(int(flagged.any(0).sum()), n)


def measure(
    scores: Tensor, config: Config, thresholds: Sequence[float], abstentions: Mapping[str, Abstention]
) -> tuple[tuple[GuardReport, ...], FalseAlarms | None]:
    """Measure each guard, and all that share the budget together, on rows that their thresholds do not depend on."""
    measured = false_alarms(scores, config) if config.budgeted else None
    total = sum(config.guards[place].share for place in config.budgeted)
    reports = []
    for place, (spec, threshold) in enumerate(zip(config.guards, thresholds, strict=True)):
        abstention = abstentions.get(spec.name)
        share = spec.share / total if abstention is None else 0.0
        alarms = None if measured is None or abstention is not None else measured[0][place]
        reports.append(GuardReport(spec.name, share, threshold, alarms, abstention))
    return tuple(reports), None if measured is None else measured[1]
