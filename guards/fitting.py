"""Fit every guard and monitor on one set of rows, calibrate it on another, and measure it on rows it never saw."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.export import ExportedProgram

from guards.bundle import Bundle, context_of
from guards.config import Config
from guards.conformal import Classifier, Regressor, fit_temperature, temperature_rows
from guards.detector import Detector
from guards.examination import refuse_missing, refuse_not_finite
from guards.exemplars import Exemplars
from guards.false_alarms import FalseAlarms, GuardReport, measure
from guards.heldout_rows import guard_without_turn
from guards.model import TorchModel
from guards.monitor import Monitor
from guards.pipeline import Pipeline
from guards.registry import registered
from guards.run_model import CHUNK, chunks_of, run_model
from guards.schema import InputSchema
from guards.selftest import KNOWN_ROWS, SelfTest, made_up_rows
from guards.types import Batch, Mistake, ModelOutput, Outcome, Reference, Rows

__all__ = ["Fitted", "Labelled", "fit"]

Track = Callable[[range, str], Iterable[int]]
"""Wraps the steps of a named stage, to show their progress."""


def _untracked(steps: range, _stage: str) -> Iterable[int]:
    return steps


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The model's ``logits`` (n, k) or values (n, 1) for rows with the labels ``y`` (n,), None if there are none."""

    logits: Tensor
    y: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A bundle, and what was measured while fitting it; ``train`` and ``heldout`` have the rows' outputs."""

    bundle: Bundle
    train: Labelled
    heldout: Labelled
    guards: tuple[GuardReport, ...]
    any_guard: FalseAlarms | None
    violations: FalseAlarms
    warnings: tuple[str, ...]


def fit(  # noqa: PLR0913
    config: Config,
    *,
    schema: InputSchema,
    classes: tuple[str, ...],
    model: TorchModel,
    train: Rows,
    heldout: Rows,
    program: ExportedProgram | None = None,
    track: Track = _untracked,
) -> Fitted:
    """Fit on ``train``, calibrate on ``heldout``; ``track`` shows progress.

    A part of the held-out rows is set aside for the temperature, so that the calibration rows fit nothing.

    Raises:
        Mistake: a guard or monitor cannot be fitted, or the calibration rows cannot support what is asked.
    """
    warnings: list[str] = []
    refuse_missing(model, schema)
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
    detectors, scores, violated = _fit_detectors(config, reference, clean, track)
    if bool(violated.any()):
        warnings.append(
            f"{int(violated.sum())} of {len(violated)} calibration rows break a declared bound; "
            "they are flagged whatever the budget says, and left out of the calibration"
        )
    scores = scores[:, ~violated].cpu()
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
        nonconformity=_nonconformity(clean_output, calibration.y, classes, temperature),
        monitors=(),
    )
    pipeline = bundle.pipeline()
    outcome = _observe(pipeline, clean)
    heldout_reference = replace(reference, batch=clean, y=calibration.y, train_hits=_hits(reference, classes))
    bundle = replace(bundle, monitors=_fit_monitors(config, heldout_reference, classes, outcome, track))
    near = config.explain.neighbours
    exemplars = Exemplars.of(
        reference,
        torch.cat([model.prepare(chunk.x) for chunk in chunks_of(reference.batch)]),
        seed=config.reference.seed,
        store_rows=config.store_reference_rows,
        kept=0 if near is None else near.kept,
        show_rows=near is not None and near.show_rows,
    )
    bundle = replace(bundle, exemplars=exemplars)
    bundle.subject()  # a mistake under `explain` is told now, and not to the first who asks
    rows = calibration.x[:KNOWN_ROWS] if config.store_reference_rows else made_up_rows(train.x, schema)
    bundle = replace(bundle, self_test=SelfTest.record(pipeline, rows))
    reports, any_guard = measure(bundle.scores, config, pipeline.thresholds)
    for index, report in enumerate(reports):
        if report.threshold == 0:
            alike = (
                f"guards.{index}: {report.name} cannot flag by its p-value: too many calibration rows are alike to it"
            )
            few = guard_without_turn(config, index, scores.shape[1], labelled=calibration.y is not None)
            warnings.append(few or alike)
    warnings += dict.fromkeys(notice for monitor in bundle.monitors for notice in monitor.notices)
    if not config.guards:
        warnings.append("no guards are configured: every row will be allowed")
    set_aside = torch.cat([*tuning_logits, clean_output.logits])
    heldout_logits = torch.empty_like(set_aside)
    heldout_logits[_shuffle(heldout, config).to(set_aside.device)] = set_aside
    return Fitted(
        bundle=bundle,
        train=Labelled(output.logits, train.y),
        heldout=Labelled(heldout_logits, heldout.y),
        guards=reports,
        any_guard=any_guard,
        violations=FalseAlarms(int(violated.sum()), len(violated)),
        warnings=tuple(warnings),
    )


def _set_aside(heldout: Rows, config: Config, classification: bool) -> tuple[Rows, Rows]:
    """Split rows for the temperature off the calibration rows; without labels there is nothing to split off."""
    order = _shuffle(heldout, config)
    wanted = temperature_rows(len(heldout)) if classification and heldout.y is not None else 0
    return heldout.take(order[:wanted]), heldout.take(order[wanted:])


def _shuffle(heldout: Rows, config: Config) -> Tensor:
    return torch.randperm(len(heldout), generator=torch.Generator().manual_seed(config.reference.seed))


@torch.no_grad()
def _fit_detectors(
    config: Config, reference: Reference, clean: Batch, track: Track
) -> tuple[tuple[Detector, ...], Tensor, Tensor]:
    """Fit the detectors, score the calibration rows (g, n), and mark those that break a declared bound (n,)."""
    device = clean.x.device
    violated = torch.zeros(len(clean), dtype=torch.bool, device=device)
    detectors, scores = [], [torch.empty((0, len(clean)), device=device)]
    for index in track(range(len(config.guards)), "guards"):
        spec = config.guards[index]
        kind = spec.detector.model_dump()["kind"]
        detector = cast("type[Detector]", registered("detectors")[kind])(spec.detector).to(device)
        try:
            detector = detector.fit(reference).to(device)
            score = torch.cat([detector.score(chunk) for chunk in chunks_of(clean)])
        except ValueError as unfit:
            raise Mistake(f"guards.{index}.detector: {unfit}") from unfit
        if score.shape != (len(clean),):
            raise Mistake(
                f"guards.{index}.detector: {kind} gave scores of shape {tuple(score.shape)} for {len(clean)} rows; "
                "a detector gives one score per row"
            )
        for start, chunk in zip(range(0, len(clean), CHUNK), chunks_of(clean), strict=True):
            broken = detector.violations(chunk)
            if broken is not None:
                violated[start : start + CHUNK] |= broken
        detectors.append(detector)
        scores.append(score.float()[None])
    return tuple(detectors), torch.cat(scores), violated


def _fit_monitors(
    config: Config, heldout: Reference, classes: tuple[str, ...], outcome: Outcome, track: Track
) -> tuple[Monitor, ...]:
    context = context_of(config, heldout.schema, classes)
    monitors = []
    for index in track(range(len(context.monitors)), "monitors"):
        params = context.monitors[index]
        try:
            kind = cast("type[Monitor]", registered("monitors")[params.kind])
            monitors.append(kind(params, context).to(heldout.batch.x.device).fit(heldout, outcome))
        except ValueError as unfit:
            raise Mistake(f"monitors.{index}: {unfit}") from unfit
    return tuple(monitors)


def _hits(reference: Reference, classes: tuple[str, ...]) -> tuple[int, int] | None:
    """Count the rows that the model gets right, where there are labels."""
    if not classes or reference.y is None or reference.batch.output is None:
        return None
    right = reference.batch.output.logits.argmax(1) == reference.y
    return int(right.sum()), len(right)


def _observe(pipeline: Pipeline, batch: Batch) -> Outcome:
    """Judge rows whose output is there already."""
    return pipeline.conclude(batch, pipeline.check_input(batch) | pipeline.check_output(batch))


def _nonconformity(output: ModelOutput, y: Tensor | None, classes: tuple[str, ...], temperature: float) -> Tensor:
    if y is None:
        return torch.empty(0)
    y = y.to(output.logits.device)
    scores = Classifier.scores(output.logits, y, temperature) if classes else Regressor.scores(output.logits, y)
    return scores.cpu()
