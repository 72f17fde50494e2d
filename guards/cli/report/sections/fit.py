"""The section about the model's fit: how well it does on which rows, and whether it over- or underfits."""

from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.quality import Quality, recognises
from guards.cli.report.charts import Estimate, estimates
from guards.cli.report.measures.differences import Difference, difference
from guards.cli.report.measures.learning_curve import LearningCurve
from guards.cli.report.parts import Parts
from guards.cli.report.sections.section import Block, Finding, Grid, Level, Remark, Section, chart
from guards.cli.report.sections.simple_models import NO_RIVAL, curve_blocks, head_finding, more_rows, rival_finding
from guards.cli.report.words import between, number, percent, points, quality_words

__all__ = ["fit_section"]

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
        findings.append(rival_finding(rival))
    if head is not None:
        findings += [head_finding(head), more_rows(head)]
    blocks: list[Block] = [_quality_chart(found), _quality_grid(found)]
    if train.rmse is not None:
        blocks.append(_rmse_grid(found))
    for curve, name in ((rival, "rival"), (head, "head")):
        if curve is not None:
            blocks += curve_blocks(curve, name, classification=bool(classes))
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
