"""The section about the data: what the rows are, what is odd in them, and which labels are probably wrong."""

from collections.abc import Iterator

from guards.cli.report.measures.label_errors import LabelErrors, label_errors
from guards.cli.report.measures.repeated_rows import RepeatedRows, repeated_rows
from guards.cli.report.parts import Parts
from guards.cli.report.sections.columns import column_findings, column_grid, element_findings
from guards.cli.report.sections.section import Block, Finding, Grid, Level, Remark, Section
from guards.cli.report.sections.shares import class_blocks, class_findings, group_findings, group_grids
from guards.cli.report.words import percent, very
from guards.data.calibration_rows import row_hashes, shared_rows
from guards.sentences import agreeing, counted

__all__ = ["data_section"]

SHOWN = 20
REPEATED, SHARED, BY_CHANCE, WRONG = 0.01, 0.01, 1e-3, 0.01


def data_section(parts: Parts) -> Section:
    """Audit the training and the held-out rows."""
    names = ("training", "held-out")
    repeats = {name: repeated_rows(part.rows.x, part.rows.y) for name, part in zip(names, parts.both, strict=True)}
    errors = _label_errors(parts)
    findings = [
        *class_findings(parts),
        *group_findings(parts),
        *(column_findings(parts) if parts.bundle.schema.kind == "tabular" else element_findings(parts)),
        *(finding for name, found in repeats.items() for finding in _repeat_findings(name, found)),
        *_shared_findings(parts),
        *([] if errors is None else [_error_finding(parts, errors)]),
    ]
    lead = _lead(parts, sum(finding.level != "good" for finding in findings))
    blocks: list[Block] = [*class_blocks(parts), *group_grids(parts)]
    if parts.bundle.schema.kind == "tabular":
        blocks += [column_grid(parts)]
    if any(found.repeats or found.conflicting for found in repeats.values()):
        blocks += _repeat_blocks(repeats, parts)
    blocks += [*([] if errors is None else _error_blocks(parts, errors))]
    return Section("data", "The data", (lead, *findings), tuple(blocks))


def _lead(parts: Parts, odd: int) -> Finding:
    schema, classes = parts.bundle.schema, parts.bundle.classes
    what = (
        counted(len(schema.columns), "column")
        if schema.kind == "tabular"
        else f"{schema.kind}s of shape {list(schema.shape)}"
    )
    task = f"{len(classes)} classes" if classes else "a number to predict"
    outcome = "nothing in them is odd" if not odd else f"{counted(odd, 'thing')} in them should be looked at"
    sentence = (
        f"The model was given {len(parts.train.rows):,} training rows and {len(parts.heldout.rows):,} held-out rows, "
        f"with {what} and {task}; {outcome}."
    )
    return Finding("good", sentence)


def _repeat_findings(name: str, found: RepeatedRows) -> Iterator[Finding]:
    if found.repeats:
        level: Level = "look" if found.repeats > REPEATED * found.rows else "good"
        repeat = agreeing(found.repeats, "repeats", "repeat")
        yield Finding(level, f"{very(found.repeats, found.rows)} {name} rows {repeat} an earlier row with its label.")
    if found.conflicting:
        yield Finding(
            "look" if found.unavoidable > REPEATED * found.rows else "good",
            f"{very(found.conflicting, found.rows)} {name} rows have the inputs of another row and a different label: "
            f"no model can be right on more than {percent(1 - found.unavoidable / found.rows, 2)} of the {name} rows.",
        )


def _repeat_blocks(repeats: dict[str, RepeatedRows], parts: Parts) -> Iterator[Block]:
    lines = []
    for part, (name, found) in zip(parts.both, repeats.items(), strict=True):
        pairs = [f"{part.place[a]} and {part.place[b]}" for a, b in found.examples]
        unavoidable = f"{found.unavoidable:,}"
        lines.append(
            (name, f"{found.rows:,}", f"{found.repeats:,}", f"{found.conflicting:,}", unavoidable, "; ".join(pairs))
        )
    head = ("rows", "number", "repeat a row", "conflicting labels", "must be wrong", "examples of conflicts")
    yield Grid("Repeated rows and conflicting labels (row numbers are places in the file, from 0)", head, tuple(lines))


def _shared_findings(parts: Parts) -> Iterator[Finding]:
    train, held = parts.train.rows, parts.heldout.rows
    labelled = train.y is not None and held.y is not None
    hashes = [row_hashes(rows.x, rows.y if labelled else None) for rows in (train, held)]
    shared, expected, by_chance = shared_rows(*hashes)
    if not shared:
        yield Finding("good", "No held-out row is also a training row.")
        return
    are = agreeing(shared, "is also a training row", "are also training rows")
    by_chance_alone = f"rows that are equal by chance explain about {expected:,.0f} of them"
    sentence = f"{very(shared, len(held))} held-out rows {are}; {by_chance_alone}"
    if by_chance < BY_CHANCE and shared - expected > SHARED * len(held):
        advice = "accuracy, coverage and thresholds are better here than they will be: take these rows out of one file"
        yield Finding("act", f"{sentence}: {advice}.")
    else:
        yield Finding("good", f"{sentence}.")


def _label_errors(parts: Parts) -> LabelErrors | None:
    """Look for wrong labels among the calibration rows; None for a regression, or without labels."""
    part = parts.calibration
    probabilities = part.judged.prediction.probabilities
    if part.rows.y is None or probabilities is None:
        return None
    return label_errors(probabilities.double().cpu().numpy(), part.rows.y.long().numpy())


def _error_finding(parts: Parts, errors: LabelErrors) -> Finding:
    rows = len(parts.calibration.rows)
    if not errors.suspects:
        return Finding(
            "good", f"Confident learning finds no label among {rows:,} calibration rows that is probably wrong."
        )
    level: Level = "look" if errors.expected > WRONG * rows else "good"
    return Finding(
        level,
        f"Confident learning doubts {very(len(errors.suspects), rows)} labels of calibration rows: the label is wrong, "
        "or the model is.",
    )


def _error_blocks(parts: Parts, errors: LabelErrors) -> Iterator[Block]:
    if not errors.suspects:
        return
    classes, part = parts.bundle.classes, parts.calibration
    lines = [
        (
            f"{int(part.place[each.row])}",
            classes[each.label],
            classes[each.other],
            percent(each.probability),
            percent(each.likelier),
        )
        for each in errors.suspects[:SHOWN]
    ]
    more = f"the {SHOWN} most doubtful of {len(errors.suspects):,}" if len(errors.suspects) > SHOWN else "all of them"
    head = ("row", "label", "probably", "p(label)", "p(probably)")
    yield Grid(f"Labels in doubt: {more} (row numbers of {part.path.name}, from 0)", head, tuple(lines), left=3)
    sure = (
        ""
        if parts.separate
        else (
            " The calibration rows were split off the training file: if the model was trained on "
            "them, it repeats their "
            "labels, and wrong labels stay hidden."
        )
    )
    yield Remark(
        "Labels in doubt are found by confident learning (Northcutt, Jiang & Chuang 2021) from probabilities for rows "
        "that the model was not trained on. A model that confuses two classes looks like wrong labels: a person has to "
        f"look at these rows.{sure}"
    )
