"""The section about the data: what the rows are, what is odd in them, and which labels are probably wrong."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import chi2_contingency

from guards.cli.report.charts import grouped_bars
from guards.cli.report.group_rows import groups_monitors, rows_by_group
from guards.cli.report.measures.label_errors import LabelErrors, label_errors
from guards.cli.report.measures.repeated_rows import RepeatedRows, repeated_rows
from guards.cli.report.parts import Parts
from guards.cli.report.sections.columns import column_findings, column_grid, element_findings
from guards.cli.report.sections.section import Block, Finding, Grid, Remark, Section, chart
from guards.cli.report.words import percent, very
from guards.data.calibration_rows import row_hashes, shared_rows
from guards.sentences import named

__all__ = ["data_section"]

SHOWN, DRAWN, FEW_ROWS = 20, 20, 30
REPEATED, SHARED, BY_CHANCE, WRONG = 0.01, 0.01, 1e-3, 0.01


def data_section(parts: Parts) -> Section:
    """Audit the training and the held-out rows."""
    names = ("training", "held-out")
    repeats = {name: repeated_rows(part.rows.x, part.rows.y) for name, part in zip(names, _both(parts), strict=True)}
    errors = _label_errors(parts)
    findings = [
        *_class_findings(parts),
        *_group_findings(parts),
        *(column_findings(parts) if parts.bundle.schema.kind == "tabular" else element_findings(parts)),
        *(finding for name, found in repeats.items() for finding in _repeat_findings(name, found)),
        *_shared_findings(parts),
        *([] if errors is None else [_error_finding(parts, errors)]),
    ]
    lead = _lead(parts, sum(finding.level != "good" for finding in findings))
    blocks: list[Block] = [*_class_blocks(parts), *_group_grids(parts)]
    if parts.bundle.schema.kind == "tabular":
        blocks += [column_grid(parts)]
    if any(found.repeats or found.conflicting for found in repeats.values()):
        blocks += _repeat_blocks(repeats, parts)
    blocks += [*([] if errors is None else _error_blocks(parts, errors))]
    return Section("data", "The data", (lead, *findings), tuple(blocks))


def _both(parts: Parts) -> tuple:  # type: ignore[type-arg]
    return parts.train, parts.heldout


def _lead(parts: Parts, odd: int) -> Finding:
    schema, classes = parts.bundle.schema, parts.bundle.classes
    what = (
        f"{len(schema.columns)} columns"
        if schema.kind == "tabular"
        else f"{schema.kind}s of shape {list(schema.shape)}"
    )
    task = f"{len(classes)} classes" if classes else "a number to predict"
    outcome = (
        "nothing in them is odd" if not odd else f"{odd} thing{'s' if odd > 1 else ''} in them should be looked at"
    )
    sentence = (
        f"The model was given {len(parts.train.rows):,} training rows and {len(parts.heldout.rows):,} held-out rows, "
        f"with {what} and {task}; {outcome}."
    )
    return Finding("good", sentence)


def _counts(parts: Parts) -> list[np.ndarray] | None:  # type: ignore[type-arg]
    k, labels = len(parts.bundle.classes), [part.rows.y for part in _both(parts)]
    if not k or any(y is None for y in labels):
        return None
    return [np.bincount(y.long().numpy(), minlength=k) for y in labels]


def _class_findings(parts: Parts) -> Iterator[Finding]:
    counts = _counts(parts)
    if counts is None:
        return
    for name, found in zip(("training", "held-out"), counts, strict=True):
        few = [label for label, count in zip(parts.bundle.classes, found, strict=True) if count < FEW_ROWS]
        if few:
            yield Finding(
                "look",
                f"The {name} rows have fewer than {FEW_ROWS} rows of class {named(few, 5)}: figures "
                "of such a class mean little.",
            )
    yield from _mixture(parts, "classes", *counts)


def _mixture(parts: Parts, what: str, *counts: np.ndarray) -> Iterator[Finding]:  # type: ignore[type-arg]
    """Compare the shares of classes or groups in the training and the held-out rows, by Pearson's test."""
    present = np.stack(counts)[:, sum(counts) > 0]
    if present.shape[1] > 1 and (present.sum(1) > 0).all() and chi2_contingency(present).pvalue < BY_CHANCE:
        name = parts.heldout.path.name
        yield Finding(
            "look",
            f"The {what} have other shares among the held-out rows than among the training rows, by "
            f"more than chance: is {name} drawn in another way?",
        )


def _class_blocks(parts: Parts) -> Iterator[Block]:
    counts = _counts(parts)
    if counts is None:
        return
    classes = parts.bundle.classes
    shares = [count / max(1, count.sum()) for count in counts]
    if len(classes) <= DRAWN:
        series = dict(zip(("training", "held-out"), (share.tolist() for share in shares), strict=True))
        figure = grouped_bars(classes, series, label="share of the rows", percent=True)
        yield chart("classes", "Rows by class", "Both bars of a class should be equally long.", figure)
    lines = [
        (label, f"{a:,}", percent(share), f"{b:,}", percent(other))
        for label, a, share, b, other in zip(classes, counts[0], shares[0], counts[1], shares[1], strict=True)
    ]
    more = f" (the first {SHOWN} of {len(lines)})" if len(lines) > SHOWN else ""
    yield Grid(f"Rows by class{more}", ("class", "training", "share", "held-out", "share"), tuple(lines[:SHOWN]))


def _group_findings(parts: Parts) -> Iterator[Finding]:
    for monitor in groups_monitors(parts.bundle):
        counts = [rows_by_group(parts.bundle, monitor, part.rows) for part in _both(parts)]
        yield from _mixture(parts, f"groups by {monitor.params.attribute}", *counts)


def _group_grids(parts: Parts) -> Iterator[Grid]:
    for monitor in groups_monitors(parts.bundle):
        counts = [rows_by_group(parts.bundle, monitor, part.rows) for part in _both(parts)]
        lines = [
            (level, f"{a:,}", percent(a / max(1, counts[0].sum())), f"{b:,}", percent(b / max(1, counts[1].sum())))
            for level, a, b in zip(monitor.levels, *counts, strict=True)
            if a or b
        ]
        head = ("group", "training", "share", "held-out", "share")
        yield Grid(f"Rows by {monitor.params.attribute}", head, tuple(lines[:SHOWN]))


def _repeat_findings(name: str, found: RepeatedRows) -> Iterator[Finding]:
    if found.repeats:
        level = "look" if found.repeats > REPEATED * found.rows else "good"
        yield Finding(level, f"{very(found.repeats, found.rows)} {name} rows repeat an earlier row with its label.")
    if found.conflicting:
        yield Finding(
            "look" if found.unavoidable > REPEATED * found.rows else "good",
            f"{very(found.conflicting, found.rows)} {name} rows have the inputs of another row and a different label: "
            f"no model can be right on more than {percent(1 - found.unavoidable / found.rows, 2)} of the {name} rows.",
        )


def _repeat_blocks(repeats: dict[str, RepeatedRows], parts: Parts) -> Iterator[Block]:
    lines = []
    for part, (name, found) in zip(_both(parts), repeats.items(), strict=True):
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
    sentence = (
        f"{very(shared, len(held))} held-out rows are also training rows; rows that are equal by chance explain about "
        f"{expected:,.0f} of them"
    )
    if by_chance < BY_CHANCE and shared - expected > SHARED * len(held):
        advice = "accuracy, coverage and thresholds are better here than they will be: take these rows out of one file"
        yield Finding("act", f"{sentence}: {advice}.")
    else:
        yield Finding("good", f"{sentence}.")


def _label_errors(parts: Parts) -> LabelErrors | None:
    """Look for wrong labels among the calibration rows; None for a regression, or without labels."""
    part = parts.calibration
    assert part.result is not None  # noqa: S101 - such rows are judged
    probabilities = part.result.prediction.probabilities
    if part.rows.y is None or probabilities is None:
        return None
    return label_errors(probabilities.double().cpu().numpy(), part.rows.y.long().numpy())


def _error_finding(parts: Parts, errors: LabelErrors) -> Finding:
    rows = len(parts.calibration.rows)
    if not errors.suspects:
        return Finding(
            "good", f"Confident learning finds no label among {rows:,} calibration rows that is probably wrong."
        )
    level = "look" if errors.expected > WRONG * rows else "good"
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
