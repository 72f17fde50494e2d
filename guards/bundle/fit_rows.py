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
from guards.bundle.fit_abstentions import fit_abstentions
from guards.bundle.fit_notices import fit_notices
from guards.bundle.fit_parts import Track, fit_detectors, fit_memory_guards, fit_monitors, untracked
from guards.bundle.labelled import Labelled
from guards.bundle.predictor_parts import calibrate, codes_of_requests, draws_by_place, fit_measure, stratum_of
from guards.bundle.self_test import KNOWN_ROWS, SelfTest, made_up_rows
from guards.calibration.temperature import fit_temperature
from guards.config.config import Config
from guards.config.heldout_rows import rows_set_aside
from guards.examination import refuse_missing, refuse_not_finite
from guards.explainers.reference_sample import Exemplars
from guards.input.schema import InputSchema
from guards.model.chunked_run import chunks_of, run_model
from guards.model.torch_model import TorchModel
from guards.notices import Notices
from guards.pipeline import Pipeline
from guards.types import Batch, Reference, Result, Rows

if TYPE_CHECKING:
    # The module of Quality needs scipy, which the library alone does not install.
    from guards.bundle.model_quality.quality import Quality

MOST_TIMED = 64
"""The most rows on which the cost of views is measured."""
__all__ = ["Fitted", "fit_examined", "fit_rows", "places_set_aside"]


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
    places = places_set_aside(heldout, config)
    tuning, calibration = map(heldout.take, places)
    tuning_output = run_model(model, tuning.x) if len(tuning) else None
    temperature = 1.0
    if classes and tuning.y is not None and tuning_output is not None:
        temperature = fit_temperature(tuning_output.logits, tuning.y.to(model.device))
    fitted_measure = fit_measure(config, tuning_output, tuning.y, temperature)
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
    clean = Batch(
        calibration.x.to(device),
        {name: c.to(device) for name, c in codes_of_requests(config, schema, classes, calibration).items()},
        clean_output,
        draws_by_place(len(calibration), "calibration").to(device),
    )
    detectors, scores, violated = fit_detectors(config, reference, clean, track)
    memory_guards = fit_memory_guards(config, reference, clean, track)
    aside = None if tuning_output is None else (Batch(tuning.x.to(device), output=tuning_output), tuning.y)
    abstentions = fit_abstentions(config, detectors, aside, (scores, calibration.y, clean_output.logits))
    scores = scores[:, ~violated].cpu()
    calibrated = calibrate(config, schema, classes, clean, calibration.y, fitted_measure, temperature)
    predictor = calibrated.predictor(config, schema, classes)
    pipeline = make_pipeline(
        config,
        model,
        detectors=detectors,
        scores=scores,
        abstentions=abstentions,
        predictor=predictor,
        stratum_of=stratum_of(config, schema, classes),
    )
    judged = _judge(pipeline, clean)
    heldout_reference = replace(reference, batch=clean, y=calibration.y, train_hits=_hits(reference, classes))
    monitors = fit_monitors(config, heldout_reference, classes, judged, track)
    exemplars = _keep_exemplars(config, reference, model)
    make_subject(config, model, schema, exemplars)  # a mistake under `explain` is found now, not by the first request
    known = calibration.x[:KNOWN_ROWS] if config.store_reference_rows else made_up_rows(train.x, schema)
    bundle = Bundle(
        config=config,
        schema=schema,
        classes=classes,
        model=model,
        program=program,
        detectors=detectors,
        memory_guards=memory_guards,
        cause_names={s.name: d.cause_names() for s, d in zip(config.guards, detectors, strict=True)},
        scores=scores,
        abstentions=abstentions,
        calibrated=calibrated,
        monitors=monitors,
        exemplars=exemplars,
        self_test=SelfTest.record(pipeline, known, classes),
    )
    violations = FalseAlarms(int(violated.sum()), len(violated))
    reports, any_guard = measure(scores, config, pipeline.thresholds, abstentions)
    outputs = [output.logits for output in (tuning_output, clean_output) if output is not None]
    set_aside = torch.cat(outputs)
    heldout_logits = torch.empty_like(set_aside)
    heldout_logits[torch.cat(places).to(set_aside.device)] = set_aside
    return Fitted(
        bundle=bundle,
        train=Labelled(output.logits, train.y),
        heldout=Labelled(heldout_logits, heldout.y),
        guards=reports,
        any_guard=any_guard,
        violations=violations,
        notices=fit_notices(
            bundle,
            predictor,
            reports,
            violations,
            probabilities=judged.prediction.probabilities,
            labels=calibration.y,
            rows=calibration.x[:MOST_TIMED],
        ),
    )


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


def places_set_aside(heldout: Rows, config: Config) -> tuple[Tensor, Tensor]:
    """Give the places of the held-out rows for the temperature or the scale, if any, and of the calibration rows."""
    order = torch.randperm(len(heldout), generator=torch.Generator().manual_seed(config.reference.seed))
    wanted = rows_set_aside(config, len(heldout), labelled=heldout.y is not None)
    return order[:wanted], order[wanted:]


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
