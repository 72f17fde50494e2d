"""What the report says of the shares of classes and groups among the training and the held-out rows."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency

from guards.cli.report.charts import grouped_bars
from guards.cli.report.group_rows import groups_monitors, rows_by_group
from guards.cli.report.parts import Parts
from guards.cli.report.sections.section import Block, Finding, Grid, chart
from guards.cli.report.words import percent
from guards.sentences import named

__all__ = ["class_blocks", "class_findings", "group_findings", "group_grids"]

Counts = npt.NDArray[np.int64]
SHOWN, DRAWN, FEW_ROWS, BY_CHANCE = 20, 20, 30, 1e-3


def _counts(parts: Parts) -> list[Counts] | None:
    k, labels = len(parts.bundle.classes), [part.rows.y for part in parts.both]
    if not k:
        return None
    counts = [np.bincount(y.long().numpy(), minlength=k) for y in labels if y is not None]
    return counts if len(counts) == len(labels) else None


def class_findings(parts: Parts) -> Iterator[Finding]:
    """Say which classes have few rows, and whether the two files have other shares of the classes."""
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


def _mixture(parts: Parts, what: str, *counts: Counts) -> Iterator[Finding]:
    """Compare the shares of classes or groups in the training and the held-out rows, by Pearson's test."""
    present = np.stack(counts)[:, sum(counts) > 0]
    if present.shape[1] > 1 and (present.sum(1) > 0).all() and chi2_contingency(present).pvalue < BY_CHANCE:
        name = parts.heldout.path.name
        yield Finding(
            "look",
            f"The {what} have other shares among the held-out rows than among the training rows, by "
            f"more than chance: is {name} drawn in another way?",
        )


def class_blocks(parts: Parts) -> Iterator[Block]:
    """Show the share of each class."""
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


def group_findings(parts: Parts) -> Iterator[Finding]:
    """Say whether the two files have other shares of groups."""
    for monitor in groups_monitors(parts.bundle):
        counts = [rows_by_group(parts.bundle, monitor, part.rows) for part in parts.both]
        yield from _mixture(parts, f"groups by {monitor.params.attribute}", *counts)


def group_grids(parts: Parts) -> Iterator[Grid]:
    """Show the share of each group that a monitor counts."""
    for monitor in groups_monitors(parts.bundle):
        counts = [rows_by_group(parts.bundle, monitor, part.rows) for part in parts.both]
        lines = [
            (level, f"{a:,}", percent(a / max(1, counts[0].sum())), f"{b:,}", percent(b / max(1, counts[1].sum())))
            for level, a, b in zip(monitor.levels, *counts, strict=True)
            if a or b
        ]
        head = ("group", "training", "share", "held-out", "share")
        yield Grid(f"Rows by {monitor.params.attribute}", head, tuple(lines[:SHOWN]))
