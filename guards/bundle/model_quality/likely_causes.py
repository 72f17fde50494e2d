"""Finds likely causes why a model does badly on its own training rows, by trying other readings of these rows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.input_changes import InputChange, input_changes
from guards.bundle.model_quality.label_order import better_order, knows_each
from guards.bundle.model_quality.label_scale import better_scale
from guards.bundle.model_quality.other_answers import better_answer
from guards.bundle.model_quality.quality import Quality, quality, recognises
from guards.bundle.preparation import Prepared
from guards.model.chunked_run import CHUNK, run_model
from guards.notices import Notices
from guards.sentences import named

__all__ = ["judge", "said"]

TRIED_ROWS, FEWEST, TIMED_ROWS = 1000, 40, 32
SECONDS, PASSES = 1.0, 20  # of this thread's processor time: on a busy machine as many readings are tried
"""Seconds for other readings, and how many passes must fit into this time: a slow model gets fewer rows."""
GAIN = 0.1
CLEARLY = 0.1
"""A model works if its quality is at least this share of the way from the simplest rival to a perfect model."""
GOOD = 0.9
FALL = 0.1
SHOWN = 20


@dataclass(frozen=True, slots=True)
class LikelyCause:
    """A sentence about a likely misreading, and the model's quality if it is corrected."""

    sentence: str
    quality: Quality


def judge(prepared: Prepared, outputs: Mapping[str, Labelled], notices: Notices) -> dict[str, Quality | None]:
    """Measure the model on the rows of each part, ``train`` and ``calibration``, and warn of a likely misreading."""
    found = {part: quality(rows, prepared.classes) for part, rows in outputs.items()}
    part = "train" if found["train"] is not None else "calibration"
    main = found[part]
    if main is None:
        _without_labels(outputs, prepared, notices)
        return found
    if found["train"] is None or found["calibration"] is None:
        missing, kept = ("training", "calibration") if found["train"] is None else ("calibration", "training")
        lost = "" if missing == "training" else "; without them there are no prediction sets and no intervals"
        notices.note(f"the {missing} rows have no labels: the model's quality is known only on the {kept} rows{lost}")
    rows = Labelled(outputs[part].logits, outputs[part].y)
    labels = _labels_misread(rows, prepared, part)
    causes = [_answers_misread(rows, prepared, part), labels]
    if prepared.classes and labels is None and knows_each(rows, prepared.classes):
        notices.settle()
    if main.value < _good(main) and (labels is None or labels.quality.value < _good(main)):
        causes.append(_inputs_misread(prepared, part))
    likely = [cause for cause in causes if cause is not None]
    if likely:
        notices.warn(max(likely, key=lambda cause: cause.quality.value).sentence)
    else:
        _not_above_rival(main, rows, prepared, part, notices)
    _compare_parts(found["train"], found["calibration"], notices)
    return found


def said(found: Quality) -> str:
    """Write a quality with its interval."""
    low, high = found.interval
    if found.measure == "accuracy":
        return f"{found.value:.1%} [{low:.1%}, {high:.1%}]"
    return f"{found.value:.3f} [{low:.3f}, {high:.3f}]"


def _name(found: Quality) -> str:
    return "accuracy" if found.measure == "accuracy" else "R2"


def _rows(part: str) -> str:
    return "training rows" if part == "train" else "calibration rows"


def _without_labels(outputs: Mapping[str, Labelled], prepared: Prepared, notices: Notices) -> None:
    if any(rows.y is not None for rows in outputs.values()):
        notices.warn("reference.label: all rows have the same value, so that the model's quality is unknown")
        return
    label = prepared.config.reference.label
    notices.warn(
        f"reference.label: no row has a label ({label!r}), so that the model's quality is unknown: a misread model "
        "would not be noticed, and there are no prediction sets and no intervals; give the files labels"
    )


def _good(found: Quality) -> float:
    """Give the quality above which the search for a misreading is left out."""
    return found.rival + GOOD * (1 - found.rival)


def _answers_misread(rows: Labelled, prepared: Prepared, part: str) -> LikelyCause | None:
    """Find another way to read answers from the outputs that fits the labels far better; None if there is none."""
    if not prepared.classes:
        return None
    one_logit = prepared.model.binary and prepared.model.meaning == "logits"
    other = better_answer(rows, prepared.classes, one_logit=one_logit)
    if other is None:
        return None
    advice, better, given = other
    return LikelyCause(
        f"model: accuracy is {said(better)} instead of {said(given)} on {_rows(part)} if answers are read off the "
        f"outputs otherwise: {advice}",
        better,
    )


def _labels_misread(rows: Labelled, prepared: Prepared, part: str) -> LikelyCause | None:
    """Find another order or another scale of the labels that fits the outputs far better; None if there is none."""
    if prepared.classes:
        ordered = better_order(rows, prepared.classes)
        if ordered is None:
            return None
        names, better, given = ordered
        return LikelyCause(
            f"model.classes: the outputs fit the labels in another order: accuracy {said(better)} instead of "
            f"{said(given)} on {_rows(part)}; {_new_order(prepared.classes, names)}",
            better,
        )
    scaled = better_scale(rows)
    if scaled is None:
        return None
    formula, better, given = scaled
    return LikelyCause(
        f"model: the values fit the label on another scale: R2 is {said(better)} for {formula}, and {said(given)} "
        f"as they are, on {_rows(part)}; undo the label's scaling inside the model",
        better,
    )


def _new_order(classes: tuple[str, ...], names: tuple[str, ...]) -> str:
    if len(names) <= SHOWN:
        return f"set model.classes to {list(names)}, or give the labels in the order that the model was trained with"
    moved = [f"output {i} is {new!r}" for i, (old, new) in enumerate(zip(classes, names, strict=True)) if old != new]
    return f"set model.classes so that {named(moved, SHOWN, quoted=False)}"


def _inputs_misread(prepared: Prepared, part: str) -> LikelyCause | None:
    """Find another reading of the inputs that fits far better; None if there is none."""
    best = _best_change(prepared, part)
    if best is None:
        return None
    change, better, given = best
    return LikelyCause(
        f"input: the model does far better if {change.what}: {_name(better)} {said(better)} instead of {said(given)} "
        f"on {better.rows} {_rows(part)}; {change.advice}",
        better,
    )


def _best_change(prepared: Prepared, part: str) -> tuple[InputChange, Quality, Quality] | None:
    """Choose the change under which the model does best on half of some rows, and judge it on the other half."""
    rows = prepared.train if part == "train" else prepared.heldout
    if len(rows) < FEWEST or rows.y is None:
        return None
    model = prepared.model
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(prepared.config.reference.seed))
    sample = order[: _affordable_rows(prepared, rows.x[order[:TIMED_ROWS]])]
    x, y = model.prepare(rows.x[sample].to(model.device)), rows.y[sample]
    given = _halves(prepared, x, y)
    if given is None:
        return None
    best: tuple[InputChange, Quality, Quality] | None = None
    chosen_on = given[0].value
    end = time.thread_time() + SECONDS
    for change in input_changes(prepared.schema, x, rows.x, may_crash=model.device.type == "cpu"):
        if time.thread_time() > end:
            break
        found = _halves(prepared, change.apply(x), y)
        if found is not None and found[0].value > chosen_on:
            chosen_on, best = found[0].value, (change, found[1], given[1])
    return best if best is not None and best[1].far_above(best[2], by=GAIN) else None


def _affordable_rows(prepared: Prepared, x: Tensor) -> int:
    """Count the rows on which many readings can be tried in time; the model's speed is measured on a few rows."""
    start = time.thread_time()
    run_model(prepared.model, x)
    seconds = max(time.thread_time() - start, 1e-6)
    return min(TRIED_ROWS, max(FEWEST, int(SECONDS / PASSES / seconds * len(x))))


@torch.no_grad()
def _halves(prepared: Prepared, x: Tensor, y: Tensor) -> tuple[Quality, Quality] | None:
    """Measure the model on the even and on the odd rows; None if it cannot take these inputs."""
    try:
        logits = torch.cat([prepared.model.logits(chunk) for chunk in torch.split(x, CHUNK)])
    except Exception:  # noqa: BLE001 - user code may raise anything for changed rows
        return None
    halves = [quality(Labelled(logits[half::2], y[half::2]), prepared.classes) for half in (0, 1)]
    return None if halves[0] is None or halves[1] is None else (halves[0], halves[1])


def _not_above_rival(main: Quality, rows: Labelled, prepared: Prepared, part: str, notices: Notices) -> None:
    if main.beats_rival or main.value >= main.rival + CLEARLY * (1 - main.rival):
        return
    rival = (
        f"the share {main.rival:.1%} of the class {main.rival_name!r}" if prepared.classes else "0, the R2 of the mean"
    )
    sentence = f"the model's {_name(main)} on {main.rows} {_rows(part)} is {said(main)}, not above {rival}"
    recall = recognises(rows, prepared.classes) if prepared.classes else None
    if recall is not None:
        notices.note(f"{sentence}; it still tells the classes apart ({recall})")
        return
    model, label = prepared.config.model, prepared.config.reference.label
    causes = [
        f"reference.label {label!r} names another column",
        "the columns or the preprocessing are not those that the model was trained with",
    ]
    if prepared.classes and main.rows < FEWEST:
        causes.insert(0, "model.classes is not in the order of the outputs")
    if model.weights is None and model.program is None:
        causes.insert(0, "model.weights is not given, so that the weights are random unless the builder loads them")
    tried = (
        "other readings of the rows were tried, and none is far better" if main.rows >= FEWEST else "the rows are few"
    )
    notices.warn(f"{sentence}: the model does not fit these rows ({tried}); likely causes: {'; '.join(causes)}")


def _compare_parts(train: Quality | None, heldout: Quality | None, notices: Notices) -> None:
    if train is None or heldout is None:
        return
    name = _name(train)
    if train.far_above(heldout, by=FALL):
        sentence = (
            f"the model overfits: its {name} is {said(train)} on training rows and {said(heldout)} on calibration rows"
        )
        if heldout.value > heldout.rival:
            notices.note(sentence)
        else:
            rival = f"always answering {heldout.rival_name!r}" if heldout.rival_name is not None else "the mean"
            notices.warn(f"{sentence}, no better than {rival}; check that both files hold the same data")
    elif heldout.far_above(train, by=FALL):
        notices.note(
            f"the model's {name} is {said(heldout)} on calibration rows but only {said(train)} on training rows: check "
            "whether reference.path and reference.calibration are exchanged"
        )
