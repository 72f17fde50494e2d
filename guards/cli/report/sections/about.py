"""The section about the report itself: which bundle, which files, and by which methods."""

from collections.abc import Sequence
from datetime import UTC, datetime

import torch

from guards.cli.report.parts import Parts
from guards.cli.report.sections.section import Block, Finding, Grid, Remark, Section
from guards.version import __version__

__all__ = ["about_section"]

METHODS = (
    ("intervals of shares", "Clopper & Pearson 1934"),
    ("intervals of R2 and RMSE", "delta method: van der Vaart 1998, chapter 3"),
    ("intervals of gaps", "Zou & Donner 2008; paired rows: normal, with the rows of Agresti & Min 2005"),
    ("labels in doubt", "confident learning: Northcutt, Jiang & Chuang 2021"),
    ("columns told by others", "variance inflation: Belsley, Kuh & Welsch 1980"),
    ("calibration error", "bins of as many rows: Nixon et al. 2019; by chance: Vaicenavicius et al. 2019"),
    ("coverage, p-values", "conformal prediction: Vovk, Gammerman & Shafer 2005"),
    ("intervals of groups", "confidence sequences, valid at all times"),
)


def about_section(parts: Parts, notes: Sequence[str]) -> Section:
    """Name the bundle, the files and the methods."""
    bundle, config = parts.bundle, parts.bundle.config
    given = [parts.train, parts.heldout, *filter(None, (parts.clean, parts.suspect))]
    files = tuple(
        (part.name, part.path.name, f"{len(part.rows):,}", "yes" if part.rows.y is not None else "no") for part in given
    )
    facts = (
        ("model", f"{config.name} {config.version}"),
        ("bundle", bundle.id),
        ("task", config.model.task),
        ("built by", str(config.model.builder or config.model.program)),
        ("numbers", f"{bundle.model.precision} on {bundle.model.device}"),
        ("written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("guardhouse", __version__),
        ("torch", torch.__version__),
    )
    blocks: list[Block] = [
        Grid("The bundle", ("fact", "value"), facts, left=2),
        Grid("The files", ("rows", "file", "number", "labels"), files, left=2),
        Grid("The methods", ("what", "method"), METHODS, left=2),
        *map(Remark, notes),
    ]
    sentence = (
        f"This page was written from the bundle of {config.name} {config.version} and the files below, "
        "and from nothing else."
    )
    return Section("about", "About this report", (Finding("good", sentence),), tuple(blocks))
