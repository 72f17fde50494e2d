"""Makes the parts of a bundle from a config: guards, monitors, budget, predictor, pipeline, and explained functions."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from guards.calibration.budget import Budget
from guards.calibration.p_values import Calibration
from guards.calibration.prediction_sets import Classifier, Predictor, Regressor
from guards.config.config import Config
from guards.config.plugins import registered
from guards.config.sections import GuardConfig
from guards.detectors.base import Detector
from guards.explainers.baselines import baselines
from guards.explainers.explained_function import Subject
from guards.explainers.reference_sample import Exemplars
from guards.input.schema import InputSchema
from guards.model.torch_model import TorchModel
from guards.monitors.base import Context, Monitor, MonitorParams
from guards.pipeline import Guard, Pipeline
from guards.types import Mistake

__all__ = [
    "check_parts",
    "context_of",
    "make_budget",
    "make_detector",
    "make_monitor",
    "make_pipeline",
    "make_predictor",
    "make_subject",
]


def context_of(config: Config, schema: InputSchema, classes: tuple[str, ...]) -> Context:
    """Describe to the monitors what they watch: rows of the schema, labels in logit order, and the config's guards."""
    guards = tuple(spec.name for spec in config.guards)
    return Context(schema, classes, guards, config.all_monitors, config.false_alarm_budget)


def make_detector(spec: GuardConfig) -> Detector:
    """Make a guard's detector, which is not fitted yet.

    Raises:
        ValueError: the detector refuses its parameters.
    """
    kind = spec.detector.model_dump()["kind"]
    return cast("type[Detector]", registered("detectors")[kind])(spec.detector)


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
    if mistakes:
        raise Mistake(*mistakes)


def make_budget(config: Config, scores: Tensor) -> Budget:
    """Calibrate the guards jointly on ``scores`` (g, n), each guard's scores of the same clean rows.

    Raises:
        ValueError: so few calibration rows cannot support the budget.
    """
    return Budget(
        scores=scores,
        shares=[spec.share for spec in config.guards],
        budget=config.false_alarm_budget,
        guarantee=config.guarantee,
    )


def make_predictor(config: Config, classes: tuple[str, ...], nonconformity: Tensor, temperature: float) -> Predictor:
    """Make the predictor that turns logits into prediction sets, or, if ``classes`` is empty, values into intervals.

    ``nonconformity`` (m,) are the scores of the labelled calibration rows; ``temperature`` divides the logits.

    Raises:
        Mistake: so few labelled rows cannot support the coverage.
    """
    try:
        if classes:
            return Classifier(nonconformity, coverage=config.coverage, temperature=temperature)
        return Regressor(nonconformity, coverage=config.coverage)
    except ValueError as unsupported:
        raise Mistake(f"coverage: {unsupported}") from unsupported


def make_pipeline(
    config: Config,
    model: TorchModel,
    *,
    classes: tuple[str, ...],
    detectors: Sequence[Detector],
    scores: Tensor,
    nonconformity: Tensor,
    temperature: float,
) -> Pipeline:
    """Make a pipeline of a model and fitted guards, with thresholds that keep the config's budget.

    ``scores`` (g, n) are the guards' scores of clean calibration rows; for the other parameters see
    :func:`make_predictor`.

    Raises:
        Mistake: so few calibration rows cannot support the budget or the coverage.
    """
    try:
        ranks = make_budget(config, scores).ranks if config.guards else []
    except ValueError as unsupported:
        raise Mistake(f"false_alarm_budget: {unsupported}") from unsupported
    return Pipeline(
        model=model,
        guards=[
            Guard(spec.name, detector.to(model.device), spec.flag_action, spec.error_action)
            for spec, detector in zip(config.guards, detectors, strict=True)
        ],
        calibration=Calibration.from_scores(scores) if config.guards else None,
        max_ranks=ranks,
        predictor=make_predictor(config, classes, nonconformity, temperature),
        shadow=config.mode == "shadow",
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
