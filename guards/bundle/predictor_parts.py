"""Makes and calibrates the predictor of a bundle: its nonconformity measure, its strata, and its scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from guards.bundle.construction import context_of
from guards.bundle.fitted_state import named_state, restored
from guards.calibration.draws import uniform_draws
from guards.calibration.label_scores import CumulativeScores
from guards.calibration.prediction_sets import Classifier, Measure, Predictor, Regressor
from guards.calibration.residual_scale import ResidualScale
from guards.calibration.strata import Strata
from guards.config.config import Config
from guards.config.heldout_rows import too_few_for_measure
from guards.input.schema import InputSchema
from guards.monitors.groupings import Attribute, Crossing, Grouping
from guards.monitors.groups.params import GroupsParams, grouping_of
from guards.types import Batch, Mistake, ModelOutput, Rows

__all__ = [
    "Calibrated",
    "calibrate",
    "codes_of_requests",
    "draws_by_place",
    "fit_measure",
    "make_measure",
    "stratum_of",
]

MEASURE = "measure"
"""The name of the nonconformity measure among a bundle's tensors."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """What the prediction sets are made of: the ``nonconformity`` (m,) of m labelled calibration rows, and more.

    ``strata`` (m,) int64 is the stratum of each of these rows, empty if all rows are calibrated together. ``measure``
    is None if the nonconformity measure learns nothing. ``temperature`` divides a classifier's logits.
    """

    nonconformity: Tensor
    strata: Tensor
    measure: Measure | None
    temperature: float

    def predictor(self, config: Config, schema: InputSchema, classes: tuple[str, ...]) -> Predictor:
        """Make the predictor: prediction sets or, if ``classes`` is empty, intervals.

        Raises:
            Mistake: so few labelled rows cannot support the coverage.
        """
        strata = None
        if len(self.strata):
            grouping = _grouping(config, schema, classes)
            names = classes if grouping is None else grouping.levels[:-2]
            strata = Strata(names, self.strata, are_labels=grouping is None)
        try:
            if not classes:
                assert not isinstance(self.measure, CumulativeScores)  # noqa: S101 - the config has checked it
                return Regressor(self.nonconformity, coverage=config.coverage, measure=self.measure, strata=strata)
            assert not isinstance(self.measure, ResidualScale)  # noqa: S101 - likewise
            return Classifier(
                self.nonconformity,
                coverage=config.coverage,
                temperature=self.temperature,
                measure=self.measure,
                strata=strata,
            )
        except ValueError as unsupported:
            raise Mistake(f"coverage: {unsupported}") from unsupported

    def tensors(self) -> dict[str, Tensor]:
        """Give the tensors that a bundle keeps, by name; the manifest keeps the temperature."""
        learned = {} if self.measure is None else named_state(MEASURE, self.measure)
        strata = {"strata": self.strata} if len(self.strata) else {}
        return {"nonconformity": self.nonconformity} | strata | learned

    @classmethod
    def from_tensors(cls, state: Mapping[str, Tensor], config: Config, *, temperature: float) -> Self:
        """Restore what :meth:`tensors` gave."""
        measure = make_measure(config)
        return cls(
            state["nonconformity"],
            state.get("strata", torch.empty(0, dtype=torch.int64)),
            None if measure is None else restored(measure, state, MEASURE),
            temperature,
        )


def make_measure(config: Config) -> Measure | None:
    """Make the nonconformity measure, which is not fitted yet; None if the measure learns nothing."""
    method = config.prediction_sets.method
    return CumulativeScores() if method in {"aps", "raps"} else ResidualScale() if method == "normalised" else None


def fit_measure(config: Config, output: ModelOutput | None, y: Tensor | None, temperature: float) -> Measure | None:
    """Fit the nonconformity measure on the ``output`` and the labels of the rows that were set aside, if there are any.

    Raises:
        Mistake: the measure needs more rows than were set aside, or labels.
    """
    few = too_few_for_measure(config, 0 if output is None else len(output.logits), labelled=y is not None)
    if few is not None:
        raise Mistake(few)
    measure = make_measure(config)
    if output is None or y is None or measure is None:
        return measure
    y, logits = y.to(output.logits.device), output.logits
    if isinstance(measure, ResidualScale):
        return measure.to(logits.device).fit(output.features, y - logits[:, 0])
    if config.prediction_sets.method == "raps":
        draws = draws_by_place(len(y), "set aside").to(logits.device)
        return CumulativeScores.regularised((logits / temperature).softmax(1), y, draws, config.coverage)
    return measure


def calibrate(
    config: Config,
    schema: InputSchema,
    classes: tuple[str, ...],
    batch: Batch,
    y: Tensor | None,
    measure: Measure | None,
    temperature: float,
) -> Calibrated:
    """Score labelled calibration rows, whose model output, draws and groups ``batch`` has; without labels, no rows."""
    output = batch.output
    none = torch.empty(0)
    if y is None or output is None:
        return Calibrated(none, none.long(), measure, temperature)
    y = y.to(output.logits.device)
    if isinstance(measure, ResidualScale):
        scores = Regressor.scores(output.logits, y, measure(output.features))
    elif classes:
        scores = Classifier.scores(output.logits, y, temperature, measure, batch.draws)
    else:
        scores = Regressor.scores(output.logits, y)
    strata = none.long()
    if config.prediction_sets.by == "class":
        strata = y.long()
    elif (stratum := stratum_of(config, schema, classes)) is not None:
        strata = stratum(batch)
    return Calibrated(scores.cpu(), strata.cpu(), measure, temperature)


def draws_by_place(rows: int, purpose: str) -> Tensor:
    """Draw for rows without ids, by their place: (rows,) float32; the ``purpose`` stands in place of the bundle."""
    return torch.from_numpy(uniform_draws(map(str, range(rows)), purpose))


def stratum_of(config: Config, schema: InputSchema, classes: tuple[str, ...]) -> Callable[[Batch], Tensor] | None:
    """Give the function that finds each row's stratum (n,) int64; None if rows are not divided by groups.

    Rows of no declared level have the number after the last stratum.
    """
    grouping = _grouping(config, schema, classes)
    if grouping is None:
        return None
    last = len(grouping.levels) - 2
    return lambda batch: grouping.group_of(batch).clamp(max=last)


def codes_of_requests(config: Config, schema: InputSchema, classes: tuple[str, ...], rows: Rows) -> dict[str, Tensor]:
    """Give the level codes (n,) that the strata need and that come with a request, by attribute.

    Raises:
        Mistake: the rows have no such group.
    """
    grouping = _grouping(config, schema, classes)
    codes = {}
    for part in grouping.parts if isinstance(grouping, Crossing) else (grouping,):
        if isinstance(part, Attribute) and (key := part.source.request) is not None:
            if key not in rows.groups:
                raise Mistake(
                    f"prediction_sets.by: the calibration rows have no group {key!r}: add `group_{key}` to "
                    "reference.calibration, or leave prediction_sets.by out"
                )
            codes[part.key] = part.encode(rows.groups[key])
    return codes


def _grouping(config: Config, schema: InputSchema, classes: tuple[str, ...]) -> Grouping | None:
    context = context_of(config, schema, classes)
    for params in context.monitors:
        if isinstance(params, GroupsParams) and params.attribute == config.prediction_sets.by:
            return grouping_of(params, context)
    return None
