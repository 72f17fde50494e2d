"""``guardhouse report``: measures a bundle on its own rows and on rows of the user's choice, and writes the page."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from guards.bundle.batches import batches_of
from guards.bundle.bundle import Bundle
from guards.cli.check import progress_bars
from guards.cli.printed_notices import noticing
from guards.cli.report.charts import styled
from guards.cli.report.measures.learning_curve import LearningCurve, head_curve, rival_curve
from guards.cli.report.measures.stage_cost import BATCH, stage_costs
from guards.cli.report.page import render
from guards.cli.report.parts import Parts, read_parts, refuse_absent
from guards.cli.report.sections.about import about_section
from guards.cli.report.sections.confidence import confidence_section
from guards.cli.report.sections.cost import cost_section
from guards.cli.report.sections.data import data_section
from guards.cli.report.sections.fit import fit_section
from guards.cli.report.sections.groups import groups_section
from guards.cli.report.sections.guards import blind_spots, guards_section
from guards.cli.report.sections.section import Section
from guards.cli.report.words import percent
from guards.notices import Notices
from guards.sentences import counted
from guards.types import Mistake

__all__ = ["run", "sections_of"]

BATCHES = 20
"""How many batches are timed, again and again."""


def run(bundle: Bundle, folder: Path, out: Path, *, clean: Path | None, suspect: Path | None, console: Console) -> None:
    """Write the page about a bundle; ``folder`` is the folder that the config's paths start from.

    Raises:
        Mistake: a file is absent or does not fit the bundle, or the page cannot be written.
    """
    _refuse_place(out)
    refuse_absent(bundle.config, folder, clean, suspect)
    with noticing(console) as notices, progress_bars(console) as progress:
        parts = read_parts(
            bundle,
            folder,
            clean,
            suspect,
            notices,
            lambda steps, stage: progress.track(steps, description=stage),
        )
        sections = sections_of(parts, notices, progress)
        config = bundle.config
        title = f"{config.name}, version {config.version}: data, fit and guards"
        subtitle = (
            f"A {config.model.task} on {schema_words(bundle)}. The guards may flag "
            f"{percent(config.false_alarm_budget, 2)} of clean "
            f"rows; {'prediction sets' if bundle.classes else 'intervals'} should hold "
            f"{percent(config.coverage)} of the labels."
        )
        page = render(title, subtitle, sections)
        try:
            out.write_text(page, encoding="utf-8")
        except OSError as failure:
            raise Mistake(f"--out {out}: cannot be written ({failure.strerror})") from None


def _refuse_place(out: Path) -> None:
    """Refuse a place for the page before minutes of work are done.

    Raises:
        Mistake: the place is a folder, or in no folder.
    """
    if out.is_dir():
        raise Mistake(f"--out {out}: this is a folder; name a file, such as {out / 'report.html'}")
    if not out.parent.is_dir():
        raise Mistake(f"--out {out}: there is no folder {out.parent}; make the folder, or name another file")


def schema_words(bundle: Bundle) -> str:
    """Say what a row is."""
    schema = bundle.schema
    if schema.kind == "tabular":
        return f"rows of {counted(len(schema.columns), 'column')}"
    return f"{schema.kind}s of shape {' x '.join(map(str, schema.shape))}"


def sections_of(parts: Parts, notices: Notices, progress: Progress) -> list[Section]:
    """Measure everything, and write the sections in the order of the page."""
    seed = parts.bundle.config.reference.seed
    head, rival = _curves(parts, seed, progress)
    task = progress.add_task("cost", total=1)
    costs = stage_costs(parts.pipeline, list(islice(batches_of(parts.bundle, parts.fresh.rows, size=BATCH), BATCHES)))
    progress.advance(task)
    with styled():
        makers: tuple[Callable[[], Section | None], ...] = (
            lambda: data_section(parts),
            lambda: fit_section(parts, head, rival),
            lambda: confidence_section(parts, seed=seed),
            lambda: guards_section(parts, seed=seed),
            lambda: groups_section(parts),
            lambda: blind_spots(parts),
            lambda: cost_section(parts, costs),
        )
        sections = [make() for make in progress.track(makers, description="page")]
    return [*filter(None, sections), about_section(parts, [*notices.notes, *notices.warnings])]


def _curves(parts: Parts, seed: int, progress: Progress) -> tuple[LearningCurve | None, LearningCurve | None]:
    """Train the simple models: a new head on the model's features and, for a table, trees on its columns."""
    classes, held, train, schema = parts.bundle.classes, parts.heldout, parts.train, parts.bundle.schema
    if held.y is None:
        return None, None
    losses = held.losses(classes)
    task = progress.add_task("learning", total=2)
    features = held.output.features.double().numpy()
    head, rival = head_curve(features, held.y, losses, classes=len(classes), seed=seed), None
    progress.advance(task)
    if schema.kind == "tabular" and train.y is not None:
        rows = [part.rows.x.double().numpy() for part in (train, held)]
        rival = rival_curve(
            (rows[0], train.y),
            (rows[1], held.y),
            losses,
            categorical=schema.categorical.tolist(),
            classes=len(classes),
            seed=seed,
        )
    progress.advance(task)
    return head, rival
