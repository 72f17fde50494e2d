"""The section about the model's fit: how well it does on which rows, and whether it over- or underfits."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.quality import Quality, recognises
from guards.cli.report.charts import Estimate, curves, estimates
from guards.cli.report.measures.differences import Difference, difference
from guards.cli.report.measures.learning_curve import LearningCurve
from guards.cli.report.parts import Parts
from guards.cli.report.sections.section import Block, Finding, Grid, Level, Remark, Section, chart
from guards.cli.report.words import between, number, percent, points, quality_words
from guards.statistics.proportions import proportion

__all__ = ["fit_section"]

Floats = npt.NDArray[np.float64]
Z = 1.959963984540054
NO_RIVAL = (
    "No other model was trained on the rows themselves, so that underfitting shows only if the model "
    "is no better than the "
    "majority class or the mean: boosted trees are trained on tables of at most 500 columns and 20 "
    "classes, and images and "
    "tensors need a network of their own."
)
CLEARLY, USUAL = 0.05, 0.02
"""A gap of so much accuracy, or R2, between training and held-out rows needs action; a smaller gap is usual."""


def fit_section(parts: Parts, head: LearningCurve | None, rival: LearningCurve | None) -> Section:
    """Compare the training rows, the held-out rows and the clean file, and two simple models with the user's model."""
    classes = parts.bundle.classes
    given = [parts.train, parts.heldout, *([] if parts.clean is None else [parts.clean])]
    found = {part.name: quality for part in given if (quality := part.quality(classes)) is not None}
    if "training" not in found or "held-out" not in found:
        return Section("fit", "The model's fit", (_unknown(found),), ())
    train, held = found["training"], found["held-out"]
    gap = difference(train.value, train.interval, held.value, held.interval)
    findings = [_gap_finding(train, held, gap, parts)]
    if not held.beats_rival:
        findings.append(_no_better(held, parts))
    if rival is not None:
        findings.append(_rival_finding(rival))
    if head is not None:
        findings += [_head_finding(head), _more_rows(head)]
    blocks: list[Block] = [_quality_chart(found), _quality_grid(found)]
    if train.rmse is not None:
        blocks.append(_rmse_grid(found))
    for curve, name in ((rival, "rival"), (head, "head")):
        if curve is not None:
            blocks += _curve_blocks(curve, name, classification=bool(classes))
    if head is None:
        blocks.append(Remark("There is no learning curve: there are too few held-out rows, or too few of one class."))
    if rival is None:
        blocks.append(Remark(NO_RIVAL))
    return Section("fit", "The model's fit", tuple(findings), tuple(blocks))


def _unknown(found: dict[str, Quality]) -> Finding:
    known = f"; on {next(iter(found))} rows it is {quality_words(next(iter(found.values())))}" if found else ""
    return Finding(
        "look",
        "The training and the held-out rows do not both have labels, so that over- and underfitting "
        f"are unknown{known}.",
    )


def _gap_finding(train: Quality, held: Quality, gap: Difference, parts: Parts) -> Finding:
    verb = "is" if train.measure == "accuracy" else ""
    said = (
        f"The model {verb} {quality_words(train)} of training rows and {percent(held.value)} of held-out rows"
        if train.measure == "accuracy"
        else f"The model explains {percent(max(train.value, 0))} of the variance of training rows and "
        f"{percent(max(held.value, 0))} of held-out rows"
    )
    said = said.replace("  ", " ")
    between_them = f"the gap of {points(gap)}"
    level: Level = "good"
    if gap.low > 0 and gap.value >= CLEARLY:
        level, verdict = "act", f"{between_them} says that it overfits"
    elif gap.low > 0 and gap.value >= USUAL:
        level, verdict = "look", f"{between_them} says that it overfits, but little"
    elif gap.low > 0:
        verdict = f"{between_them} is small, as usual for a model that works"
    elif gap.high >= CLEARLY:
        level, verdict = (
            "look",
            f"{between_them} is too uncertain to rule out that it overfits: more held-out rows would tell",
        )
    elif gap.high < 0:
        level, verdict = (
            "look",
            f"{between_them} is in favour of the held-out rows: they are easier than the training rows",
        )
    else:
        verdict = f"{between_them} shows no overfitting"
    if not parts.separate:
        verdict += (
            ". The held-out rows were split off the training file: if the model was trained on them, the gap is hidden"
        )
        level = "look" if level == "good" else level
    return Finding(level, f"{said}: {verdict}.")


def _no_better(held: Quality, parts: Parts) -> Finding:
    classes = parts.bundle.classes
    rival = f"answering {held.rival_name!r} always ({percent(held.rival)})" if classes else "always answering the mean"
    said = f"On held-out rows the model is not surely better than {rival}"
    recall = recognises(Labelled(parts.heldout.output.logits, parts.heldout.rows.y), classes) if classes else None
    if recall is not None:
        return Finding("good", f"{said}, and still tells the classes apart ({recall}).")
    return Finding("act", f"{said}: it underfits, or is misread.")


def _rival_finding(curve: LearningCurve) -> Finding:
    rows = f"boosted trees with default settings, trained on {curve.sizes[-1]:,} of the same rows"
    if curve.ahead.low > 0:
        by_little = "" if curve.ahead.value >= USUAL else " a little"
        return Finding(
            "act" if curve.ahead.value >= CLEARLY else "look",
            f"{rows[0].upper()}{rows[1:]}, beat the model by {points(curve.ahead)} on the held-out rows: the model "
            f"underfits{by_little}, since the columns hold more than it found.",
        )
    if curve.ahead.high < 0:
        return Finding(
            "good",
            f"The model beats {rows}, by {points(curve.ahead, lost=True)} on the held-out rows: it "
            "does not underfit by that measure.",
        )
    return Finding(
        "good",
        f"The model and {rows}, do equally well on the held-out rows (a difference of "
        f"{points(curve.ahead)}): there is no sign that it underfits.",
    )


def _head_finding(curve: LearningCurve) -> Finding:
    head = f"A new linear head on the model's features, trained on {curve.sizes[-1]:,} held-out rows,"
    if curve.ahead.low > 0:
        return Finding(
            "look",
            f"{head} beats the model by {points(curve.ahead)} on other held-out rows: the model's "
            "last layer is not as good as its features allow.",
        )
    if curve.ahead.high < 0:
        return Finding(
            "good",
            f"{head} does not reach the model (behind by {points(curve.ahead, lost=True)}): the "
            "model's last layer is no weak point.",
        )
    return Finding(
        "good",
        f"{head} does as well as the model (a difference of {points(curve.ahead)}): its last layer "
        "gets out what the features hold.",
    )


def _more_rows(curve: LearningCurve) -> Finding:
    from_, to = curve.sizes[-2:]
    step = f"from {from_:,} to {to:,} rows the head gains {points(curve.gain)}"
    if curve.gain.low > 0:
        return Finding("good", f"More labelled rows would probably help the head: {step}.")
    return Finding("good", f"There is no sign that more labelled rows would help the head: {step}.")


def _quality_chart(found: dict[str, Quality]) -> Block:
    accuracy = next(iter(found.values())).measure == "accuracy"
    rivals = {"always the majority class" if accuracy else "always the mean": found["held-out"].rival}
    figure = estimates(
        [Estimate(f"{name} rows", each.value, each.interval) for name, each in found.items()],
        label="share that is right" if accuracy else "R2",
        percent=accuracy,
        marks=rivals,
    )
    title = "Accuracy" if accuracy else "R2"
    return chart(
        "quality",
        f"{title} by rows",
        "A bar is a 95 % interval. If the bars do not meet, chance does not explain the gap.",
        figure,
    )


def _quality_grid(found: dict[str, Quality]) -> Grid:
    accuracy = next(iter(found.values())).measure == "accuracy"
    if not accuracy:
        values = tuple(
            (name, f"{each.rows:,}", f"{each.value:.3f}", f"[{each.interval[0]:.3f}, {each.interval[1]:.3f}]")
            for name, each in found.items()
        )
        return Grid(
            "R2, the share of the variance that is explained", ("rows", "number", "R2", "95 % interval"), values
        )
    lines = tuple(
        (name, f"{each.rows:,}", percent(each.value), between(each.interval, share=True), percent(each.rival))
        for name, each in found.items()
    )
    return Grid("Accuracy", ("rows", "number", "accuracy", "95 % interval", "majority class"), lines)


def _rmse_grid(found: dict[str, Quality]) -> Grid:
    lines = tuple(
        (name, number(each.rmse or 0.0), between(each.rmse_interval, share=False), number(each.rival_rmse or 0.0))
        for name, each in found.items()
    )
    return Grid(
        "Root mean squared error, in the label's unit", ("rows", "RMSE", "95 % interval", "RMSE of the mean"), lines
    )


def _curve_blocks(curve: LearningCurve, name: str, *, classification: bool) -> Iterator[Block]:
    held = [_held(losses, classification=classification) for losses in curve.held]
    who = "boosted trees" if name == "rival" else "new linear head"
    label = "share that is right" if classification else "R2"
    figure = curves(
        curve.sizes,
        {who: held},
        labels=("rows that it was trained on", label),
        marks={"your model": 1 - float(curve.model.mean())},
        percent=classification,
    )
    if name == "rival":
        title, caption = (
            "Learning curve of boosted trees",
            (
                "Your model cannot be trained again here, so this is the curve of another model: "
                "trees that get the columns "
                "as they are, judged on all held-out rows. It tells how much the columns hold, and "
                "whether more rows of this "
                "kind help to get it out. The band is a 95 % interval."
            ),
        )
    else:
        title, caption = (
            "Learning curve of a new last layer",
            (
                "Your model cannot be trained again here, so this is the curve of a linear head on "
                "its features, trained and "
                "judged on held-out rows. It tells whether more labelled rows would help the last "
                "layer. It cannot tell what "
                "more rows would do for the layers below. The band is a 95 % interval."
            ),
        )
    yield chart(f"curve-{name}", title, caption, figure)


def _held(each: Floats, *, classification: bool) -> Estimate:
    if classification:
        share = proportion(int((each == 0).sum()), len(each))
        return Estimate("", share.value, (share.low, share.high))
    reach = Z * float(each.std()) / len(each) ** 0.5
    value = 1 - float(each.mean())
    return Estimate("", value, (value - reach, min(1.0, value + reach)))
