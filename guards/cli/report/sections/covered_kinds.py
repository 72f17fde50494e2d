"""The kinds of rows whose coverage the report compares: those that are promised apart, classes, or predicted values."""

from dataclasses import dataclass

import torch
from torch import Tensor

from guards.bundle.batches import batches_of
from guards.cli.report.group_rows import groups_monitors
from guards.cli.report.parts import Parts
from guards.cli.report.words import number

__all__ = ["CoveredKinds", "covered_kinds"]

FIFTHS = 5


@dataclass(frozen=True, slots=True, eq=False)
class CoveredKinds:
    """The kind of each row: ``codes`` (n,) int64 of ``names``, which are values ``of`` something.

    ``promised`` has the calibration rows behind each name whose coverage is promised apart; without
    `prediction_sets.by` it is empty.
    """

    of: str
    names: list[str]
    codes: Tensor
    promised: dict[str, int]

    @property
    def each(self) -> str:
        """What a kind is called in a sentence about each of them."""
        return "class" if self.of == "class" else f"group by {self.of}"


def covered_kinds(parts: Parts) -> CoveredKinds:
    """Divide the labelled fresh rows as the prediction sets are divided, or else by class or predicted value."""
    bundle, part = parts.bundle, parts.fresh
    by, value = bundle.config.prediction_sets.by, part.judged.prediction.value
    monitor = next((each for each in groups_monitors(bundle) if each.params.attribute == by), None)
    if monitor is not None:
        codes = torch.cat([monitor.group_of(batch).cpu() for batch in batches_of(bundle, part.rows)])
        of, names = by, list(monitor.levels)
    elif value is None:
        assert part.rows.y is not None  # noqa: S101 - the section says that these rows have labels
        of, names, codes = "class", list(bundle.classes), part.rows.y.long()
    else:
        value = value.double().cpu()
        edges = torch.quantile(value, torch.linspace(0, 1, FIFTHS + 1, dtype=torch.float64))
        codes = torch.bucketize(value, edges[1:-1].contiguous())
        names = [f"{number(a)} to {number(b)}" for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
        of = "predicted value"
    counts = torch.bincount(bundle.calibrated.strata, minlength=len(names)).tolist()
    pooled = bundle.calibrated.predictor(bundle.config, bundle.schema, bundle.classes).pooled
    # Rows of no declared level have no promise of their own: the last two names of a groups monitor.
    apart = [] if by == "none" else names if monitor is None else names[:-2]
    return CoveredKinds(of, names, codes, {name: counts[i] for i, name in enumerate(apart) if name not in pooled})
