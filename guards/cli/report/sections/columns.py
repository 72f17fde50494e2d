"""What the report says of the columns of a table, and of the elements of images and tensors."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from guards.cli.report.measures.tied_columns import (
    Tied,
    constant_columns,
    correlated_pairs,
    distinct_counts,
    one_to_one,
    share_explained,
)
from guards.cli.report.parts import Parts
from guards.cli.report.sections.section import Finding, Grid, Level
from guards.cli.report.words import percent, very
from guards.sentences import agreeing, counted, named, row_numbers

__all__ = ["column_findings", "column_grid", "element_findings"]

Floats = npt.NDArray[np.float64]
SHOWN, FAR_APART, MISSING = 60, 0.05, 0.2
EXPLAINED = 0.9
"""A variance inflation factor of 10, the usual bound."""


def column_findings(parts: Parts) -> Iterator[Finding]:
    """Say which columns are constant, missing, or tied to others."""
    x, names = _x(parts), parts.bundle.schema.names
    constant = constant_columns(x)
    if constant:
        never = agreeing(len(constant), "never varies", "never vary")
        yield Finding(
            "look", f"{counted(len(constant), 'column')} of the training rows {never}: {_names(names, constant)}."
        )
    missing = [np.isnan(rows).mean(0) for rows in (x, _held_x(parts))]
    some = np.flatnonzero(missing[0] > 0)
    if len(some):
        worst = int(missing[0].argmax())
        level: Level = "look" if missing[0][worst] > MISSING else "good"
        yield Finding(
            level,
            f"{counted(len(some), 'column')} of the training rows {agreeing(len(some), 'has', 'have')} missing values; "
            f"most are missing in {names[worst]!r}, {percent(missing[0][worst])}.",
        )
    apart = np.flatnonzero(np.abs(missing[0] - missing[1]) > FAR_APART)
    if len(apart):
        first = int(apart[0])
        yield Finding(
            "look",
            f"Values of {_names(names, apart.tolist())} are missing more often in one of the two files: in "
            f"{names[first]!r} {percent(missing[0][first])} of the training rows, {percent(missing[1][first])} of the "
            "held-out rows.",
        )
    tied = [*one_to_one(x), *correlated_pairs(x, _numeric(parts))]
    if tied:
        yield Finding("look", f"Columns say the same as others: {_pairs(names, tied)}.")
    paired = {place for each in tied for place in (each.first, each.second)}
    explained = {place: share for place, share in share_explained(x, _numeric(parts)).items() if share >= EXPLAINED}
    alone = [place for place in explained if place not in paired]
    if alone:
        yield Finding(
            "look",
            f"Other numeric columns together tell most of {_names(names, alone)} (a linear function explains at least "
            f"{percent(EXPLAINED, 0)} of the variance): attributions and weights of such columns are not unique.",
        )


def column_grid(parts: Parts) -> Grid:
    """List every column of a table."""
    x, columns = _x(parts), parts.bundle.schema.columns
    missing = [np.isnan(rows).mean(0) for rows in (x, _held_x(parts))]
    distinct, explained = distinct_counts(x), share_explained(x, _numeric(parts))
    lines = [
        (
            column.name,
            column.kind,
            percent(float(missing[0][place])),
            percent(float(missing[1][place])),
            f"{distinct[place]:,}",
            percent(explained[place]) if place in explained else "",
        )
        for place, column in enumerate(columns)
    ]
    more = f" (the first {SHOWN} of {len(lines)})" if len(lines) > SHOWN else ""
    head = ("column", "kind", "missing, training", "missing, held-out", "different values", "told by other columns")
    return Grid(f"Columns{more}", head, tuple(lines[:SHOWN]), left=2)


def element_findings(parts: Parts) -> Iterator[Finding]:
    """Say which elements of images or tensors never vary, and which rows are blank."""
    flat = parts.train.rows.x.flatten(1)
    constant = int((flat.amax(0) == flat.amin(0)).sum())
    if constant:
        usual = parts.bundle.schema.kind == "image" and constant < flat.shape[1]  # a picture's margin never varies
        level: Level = "good" if usual else "look"
        what = "pixels" if parts.bundle.schema.kind == "image" else "elements"
        have = agreeing(constant, "has", "have")
        yield Finding(level, f"{very(constant, flat.shape[1])} {what} {have} the same value in all training rows.")
    for part, name in ((parts.train, "training"), (parts.heldout, "held-out")):
        rows = part.rows.x.flatten(1)
        blank = (rows.amax(1) == rows.amin(1)).nonzero()[:, 0].tolist()
        if blank and rows.shape[1] > 1:
            places = [int(part.place[row]) for row in blank]
            yield Finding(
                "look",
                f"{very(len(blank), len(rows))} {name} rows {agreeing(len(blank), 'is', 'are')} blank, with one value "
                f"everywhere: {row_numbers(places)}.",
            )


def _x(parts: Parts) -> Floats:
    return parts.train.rows.x.double().numpy()


def _held_x(parts: Parts) -> Floats:
    return parts.heldout.rows.x.double().numpy()


def _numeric(parts: Parts) -> list[int]:
    return [place for place, column in enumerate(parts.bundle.schema.columns) if column.kind == "numeric"]


def _names(names: tuple[str, ...], places: list[int]) -> str:
    return named([names[place] for place in places], 5)


def _pairs(names: tuple[str, ...], tied: list[Tied]) -> str:
    said = [
        f"{names[each.first]!r} and {names[each.second]!r} "
        + (
            "(each value of one goes with one value of the other)"
            if each.correlation is None
            else f"(correlation {each.correlation:.3f})"
        )
        for each in tied
    ]
    return named(said, 5, quoted=False)
