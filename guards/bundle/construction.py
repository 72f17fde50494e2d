"""Makes the parts of a bundle from a config: guards, monitors, budget, predictor, pipeline, and explained functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from torch import Tensor

from guards.calibration.abstention import Abstention
from guards.calibration.budget import Budget
from guards.calibration.p_values import Calibration
from guards.calibration.prediction_sets import Predictor
from guards.config.config import Config
from guards.config.plugins import registered
from guards.config.sections import GuardConfig
from guards.detectors.base import Detector
from guards.explainers.baselines import baselines
from guards.explainers.explained_function import Subject
from guards.explainers.reference_sample import Exemplars
from guards.input.schema import InputSchema
from guards.memory.base import MemoryGuard, MemoryGuardParams
from guards.model.torch_model import TorchModel
from guards.monitors.base import Context, Monitor, MonitorParams
from guards.pipeline import Guard, Pipeline
from guards.types import Batch, Mistake

__all__ = [
    "check_parts",
    "context_of",
    "make_detector",
    "make_memory_guard",
    "make_monitor",
    "make_pipeline",
    "make_subject",
    "max_ranks",
]


def context_of(config: Config, schema: InputSchema, classes: tuple[str, ...]) -> Context:
    """Describe to the monitors what they watch: rows of the schema, labels in logit order, and the config's guards."""
    guards = tuple(spec.name for spec in config.guards)
    budget = config.false_alarm_budget if config.budgeted or not config.guards else None
    return Context(schema, classes, guards, config.all_monitors, budget)


def make_detector(spec: GuardConfig) -> Detector:
    """Make a guard's detector, which is not fitted yet.

    Raises:
        ValueError: the detector refuses its parameters.
    """
    kind = spec.detector.model_dump()["kind"]
    return cast("type[Detector]", registered("detectors")[kind])(spec.detector)


def make_memory_guard(params: MemoryGuardParams) -> MemoryGuard:
    """Make a guard with memory, which is not fitted yet.

    Raises:
        ValueError: the guard refuses its parameters.
    """
    return cast("type[MemoryGuard]", registered("memory_guards")[params.kind])(params)


def make_monitor(params: MonitorParams, context: Context) -> Monitor:
    """Make a monitor, which is not fitted yet.

    Raises:
        ValueError: its parameters name something that the context does not have.
    """
    return cast("type[Monitor]", registered("monitors")[params.kind])(params, context)


def check_parts(config: Config, schema: InputSchema, classes: tuple[str, ...]) -> None:
    """Make every guard and every monitor for a schema without fitting any, to find mistakes early.

    Raises:
        Mistake: one sentence for each part of the config that cannot be made.
    """
    mistakes = []
    context = context_of(config, schema, classes)
    for index, params in enumerate(context.monitors):
        try:
            make_monitor(params, context)
        except ValueError as unfit:
            mistakes.append(f"monitors.{index}: {unfit}")
    for index, spec in enumerate(config.guards):
        try:
            make_detector(spec).check_schema(schema)
        except ValueError as unfit:
            mistakes.append(f"guards.{index}.detector: {unfit}")
    for index, watching in enumerate(config.memory_guards):
        try:
            make_memory_guard(watching).check_schema(schema)
        except ValueError as unfit:
            mistakes.append(f"memory_guards.{index}: {unfit}")
    if mistakes:
        raise Mistake(*mistakes)


def max_ranks(config: Config, scores: Tensor) -> list[int]:
    """Calibrate the guards that share the budget on ``scores`` (g, n) of the same clean rows under all guards.

    Returns the largest rank at which each guard flags, 0 for a guard that has no share of the budget.

    Raises:
        ValueError: so few calibration rows cannot support the budget.
    """
    ranks = [0] * len(config.guards)
    if config.budgeted:
        budget = Budget(
            scores=scores[list(config.budgeted)],
            shares=[config.guards[place].share for place in config.budgeted],
            budget=config.false_alarm_budget,
            guarantee=config.guarantee,
        )
        for place, rank in zip(config.budgeted, budget.ranks, strict=True):
            ranks[place] = rank
    return ranks


def make_pipeline(
    config: Config,
    model: TorchModel,
    *,
    detectors: Sequence[Detector],
    scores: Tensor,
    abstentions: Mapping[str, Abstention],
    predictor: Predictor,
    stratum_of: Callable[[Batch], Tensor] | None,
) -> Pipeline:
    """Make a pipeline of a model and fitted guards, with thresholds that keep the config's budget.

    ``scores`` (g, n) are the guards' scores of clean calibration rows; ``abstentions`` are the thresholds of the guards
    with a `target_error`, by the guard's name; for ``stratum_of`` see :class:`guards.pipeline.Pipeline`.

    Raises:
        Mistake: so few calibration rows cannot support the budget.
    """
    try:
        ranks = max_ranks(config, scores)
    except ValueError as unsupported:
        raise Mistake(f"false_alarm_budget: {unsupported}") from unsupported
    return Pipeline(
        model=model,
        guards=[
            Guard(
                spec.name,
                detector.to(model.device),
                spec.flag_action,
                spec.error_action,
                abstentions[spec.name].limit if spec.name in abstentions else math.inf,
            )
            for spec, detector in zip(config.guards, detectors, strict=True)
        ],
        calibration=Calibration.from_scores(scores) if config.guards else None,
        max_ranks=ranks,
        predictor=predictor,
        shadow=config.mode == "shadow",
        stratum_of=stratum_of,
    )


def make_subject(
    config: Config,
    model: TorchModel,
    schema: InputSchema,
    exemplars: Exemplars | None,
    detector: Detector | None = None,
) -> Subject:
    """Make the function that explanations explain: the model's output, or a detector's score.

    Raises:
        Mistake: the config's embeddings or its baseline do not fit the model, or need reference rows that are not kept.
    """
    return Subject(
        model,
        schema,
        baselines=baselines(config.explain.baseline, model, schema, exemplars),
        embeddings=config.explain.embeddings,
        detector=None if detector is None else detector.to(model.device),
    )
