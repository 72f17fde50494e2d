"""Fits a bundle on rows and a model in memory: fits guards and monitors, calibrates them, and measures them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.export import ExportedProgram

from guards.bundle.bundle import Bundle
from guards.bundle.construction import make_pipeline, make_subject
from guards.bundle.false_alarms import FalseAlarms, GuardReport, measure
from guards.bundle.fit_parts import Track, fit_detectors, fit_monitors, untracked
from guards.bundle.labelled import Labelled
from guards.bundle.self_test import KNOWN_ROWS, SelfTest, made_up_rows
from guards.calibration.prediction_sets import Classifier, Regressor, fit_temperature, temperature_rows
from guards.config.config import Config
from guards.config.heldout_rows import guard_without_turn
from guards.examination import refuse_missing, refuse_not_finite
from guards.explainers.reference_sample import Exemplars
from guards.input.schema import InputSchema
from guards.model.chunked_run import chunks_of, run_model
from guards.model.torch_model import TorchModel
from guards.notices import Notices
from guards.pipeline import Pipeline
from guards.types import Batch, ModelOutput, Reference, Result, Rows

if TYPE_CHECKING:
    # The module of Quality needs scipy, which the library alone does not install.
    from guards.bundle.model_quality.quality import Quality

__all__ = ["Fitted", "fit_examined", "fit_rows"]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A bundle, what was measured while it was fitted, and the notices for the user.

    ``train`` and ``heldout`` have the model's outputs for all rows of the two parts, in the order of the rows.
    ``any_guard`` is None if too few calibration rows are left to measure on. ``violations`` counts the calibration rows
    that break a declared bound. ``quality`` is the model's quality on the parts ``train`` and ``calibration``, and None
    for a part without labels. :func:`guards.fit` measures the quality; :func:`fit_rows` leaves ``quality`` empty.
    """

    bundle: Bundle
    train: Labelled
    heldout: Labelled
    guards: tuple[GuardReport, ...]
    any_guard: FalseAlarms | None
    violations: FalseAlarms
    notices: Notices
    quality: Mapping[str, "Quality | None"] = field(default_factory=dict)


def fit_rows(  # noqa: PLR0913
    config: Config,
    *,
    schema: InputSchema,
    classes: tuple[str, ...],
    model: TorchModel,
    train: Rows,
    heldout: Rows,
    program: ExportedProgram | None = None,
    track: Track = untracked,
) -> Fitted:
    """Fit a bundle on rows and a model that are in memory already; the config's files are not read.

    Args:
        config: names the guards and the monitors, and sets budget and coverage.
        schema: what a row is; its columns are the model's inputs.
        classes: the labels in logit order, empty for a regression.
        model: the model that the guards watch.
        train: the rows that detectors are fitted on; the model may have been trained on them.
        heldout: the rows for calibration, which the model was not trained on. A part of them is set aside to fit the
            temperature, so that nothing is fitted on the calibration rows.
        program: the exported program of ``model``, if it has one.
        track: wraps the steps of each stage, to show progress.

    Raises:
        Mistake: the model does not take missing values, a guard or monitor cannot be fitted, or the calibration rows
            cannot support what the config promises.
    """
    refuse_missing(model, schema)
    return fit_examined(
        config, schema=schema, classes=classes, model=model, train=train, heldout=heldout, program=program, track=track
    )


def fit_examined(  # noqa: PLR0913
    config: Config,
    *,
    schema: InputSchema,
    classes: tuple[str, ...],
    model: TorchModel,
    train: Rows,
    heldout: Rows,
    program: ExportedProgram | None,
    track: Track,
) -> Fitted:
    """Fit as :func:`fit_rows` does, without first testing that the model takes what the schema allows.

    Raises:
        Mistake: a guard or monitor cannot be fitted, or the calibration rows cannot support what the config promises.
    """
    output = run_model(model, train.x, lambda steps: track(steps, "reference"))
    refuse_not_finite(output.logits, output.features, train.x, schema)
    tuning, calibration = _set_aside(heldout, config, bool(classes))
    temperature, tuning_logits = 1.0, []
    if classes and tuning.y is not None and len(tuning):
        tuning_logits = [run_model(model, tuning.x).logits]
        temperature = fit_temperature(tuning_logits[0], tuning.y.to(model.device))
    device = model.device
    reference = Reference(
        batch=Batch(train.x.to(device), output=output),
        y=None if train.y is None else train.y.to(device),
        schema=schema,
        head=model.head,
        temperature=temperature,
    )
    clean_output = run_model(model, calibration.x, lambda steps: track(steps, "calibration"))
    refuse_not_finite(clean_output.logits, clean_output.features, calibration.x, schema, whose="calibration")
    clean = Batch(calibration.x.to(device), output=clean_output)
    detectors, scores, violated = fit_detectors(config, reference, clean, track)
    scores = scores[:, ~violated].cpu()
    nonconformity = _nonconformity(clean_output, calibration.y, classes, temperature)
    pipeline = make_pipeline(
        config,
        model,
        classes=classes,
        detectors=detectors,
        scores=scores,
        nonconformity=nonconformity,
        temperature=temperature,
    )
    monitors = fit_monitors(
        config,
        replace(reference, batch=clean, y=calibration.y, train_hits=_hits(reference, classes)),
        classes,
        _judge(pipeline, clean),
        track,
    )
    exemplars = _keep_exemplars(config, reference, model)
    make_subject(config, model, schema, exemplars)  # a mistake under `explain` is found now, not by the first request
    known = calibration.x[:KNOWN_ROWS] if config.store_reference_rows else made_up_rows(train.x, schema)
    bundle = Bundle(
        config=config,
        schema=schema,
        classes=classes,
        model=model,
        program=program,
        temperature=temperature,
        detectors=detectors,
        cause_names={s.name: d.cause_names() for s, d in zip(config.guards, detectors, strict=True)},
        scores=scores,
        nonconformity=nonconformity,
        monitors=monitors,
        exemplars=exemplars,
        self_test=SelfTest.record(pipeline, known),
    )
    violations = FalseAlarms(int(violated.sum()), len(violated))
    reports, any_guard = measure(scores, config, pipeline.thresholds)
    set_aside = torch.cat([*tuning_logits, clean_output.logits])
    heldout_logits = torch.empty_like(set_aside)
    heldout_logits[_shuffle(heldout, config).to(set_aside.device)] = set_aside
    return Fitted(
        bundle=bundle,
        train=Labelled(output.logits, train.y),
        heldout=Labelled(heldout_logits, heldout.y),
        guards=reports,
        any_guard=any_guard,
        violations=violations,
        notices=_notices(bundle, reports, violations, labelled=calibration.y is not None),
    )


def _notices(bundle: Bundle, reports: tuple[GuardReport, ...], violations: FalseAlarms, *, labelled: bool) -> Notices:
    """Collect warnings of rows that break a bound and of guards that cannot flag, and the monitors' own warnings."""
    config, notices = bundle.config, Notices()
    if violations.flagged:
        notices.warn(
            f"{violations.flagged} of {violations.rows} calibration rows break a declared bound or a rule; "
            "they are flagged whatever the budget says, and left out of the calibration"
        )
    for index, report in enumerate(reports):
        if report.threshold == 0:
            alike = (
                f"guards.{index}: {report.name} cannot flag by its p-value: too many calibration rows are alike to it"
            )
            few = guard_without_turn(config, index, bundle.scores.shape[1], labelled=labelled)
            notices.warn(few or alike)
    for monitor in bundle.monitors:
        for notice in monitor.notices:
            notices.warn(notice)
    if not config.guards:
        notices.warn("no guards are configured: every row will be allowed")
    return notices


def _keep_exemplars(config: Config, reference: Reference, model: TorchModel) -> Exemplars:
    """Keep the parts of the reference that the config's explanations need."""
    near = config.explain.neighbours
    return Exemplars.of(
        reference,
        torch.cat([model.prepare(chunk.x) for chunk in chunks_of(reference.batch)]),
        seed=config.reference.seed,
        store_rows=config.store_reference_rows,
        kept=0 if near is None else near.kept,
        show_rows=near is not None and near.show_rows,
    )


def _set_aside(heldout: Rows, config: Config, classification: bool) -> tuple[Rows, Rows]:
    """Split the held-out rows into rows for the temperature, none without labels, and rows for the calibration."""
    order = _shuffle(heldout, config)
    wanted = temperature_rows(len(heldout)) if classification and heldout.y is not None else 0
    return heldout.take(order[:wanted]), heldout.take(order[wanted:])


def _shuffle(heldout: Rows, config: Config) -> Tensor:
    return torch.randperm(len(heldout), generator=torch.Generator().manual_seed(config.reference.seed))


def _hits(reference: Reference, classes: tuple[str, ...]) -> tuple[int, int] | None:
    """Count the rows that the model predicts correctly, and the labelled rows; None without labels."""
    if not classes or reference.y is None or reference.batch.output is None:
        return None
    right = reference.batch.output.logits.argmax(1) == reference.y
    return int(right.sum()), len(right)


@torch.inference_mode()
def _judge(pipeline: Pipeline, batch: Batch) -> Result:
    """Judge rows whose model output is already known."""
    return pipeline.conclude(batch, pipeline.check_input(batch) | pipeline.check_output(batch))


def _nonconformity(output: ModelOutput, y: Tensor | None, classes: tuple[str, ...], temperature: float) -> Tensor:
    if y is None:
        return torch.empty(0)
    y = y.to(output.logits.device)
    scores = Classifier.scores(output.logits, y, temperature) if classes else Regressor.scores(output.logits, y)
    return scores.cpu()
