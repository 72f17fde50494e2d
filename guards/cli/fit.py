"""``guardhouse fit``: from a config to a bundle."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from guards.bundle import Bundle
from guards.cli.arrays import read_npz, table_of_npz
from guards.cli.configs import load_config
from guards.cli.files import class_names, load_rows
from guards.cli.intervals import proportion, with_interval
from guards.cli.tables import read_table, resolve_schema
from guards.columns import check_name
from guards.false_alarms import FalseAlarms
from guards.fitting import Fitted, fit
from guards.loading import load_program, make_model, read_weights
from guards.types import Mistake, Rows

__all__ = ["run"]


def run(config_path: Path, out: Path, console: Console, remarks: Sequence[Callable[[Bundle], str]] = ()) -> Fitted:
    """Load model and data, fit, save, and print what came out, and what ``remarks`` say of the bundle.

    ``console`` shows progress and warnings.

    Raises:
        Mistake: something in the config or a file is wrong.
    """
    config = load_config(config_path)
    folder = config_path.resolve().parent
    path = folder / config.reference.path
    warnings: list[str] = []
    with Progress(
        TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        loading = progress.add_task("data", total=3)
        if path.suffix == ".npz":
            arrays = read_npz(path)
            tabular = config.input.kind == "tabular"
            table = table_of_npz(arrays, config.input, path, label=config.reference.label) if tabular else {}
            labels = arrays.get("y")
            labels = labels if labels is not None and labels.dtype.kind in "US" else None
        elif config.input.kind == "tabular":
            table = read_table(path, missing=config.reference.missing)
            labels = table.get(config.reference.label)
        else:
            raise Mistake(f"reference.path: rows of kind {config.input.kind} come as .npz, not {path.suffix}")
        schema, found = resolve_schema(config.input, table, label=config.reference.label)
        warnings += found
        progress.advance(loading)
        classes = _classes(config.model.classes, labels, regression=config.model.task == "regression")
        program = load_program(folder / config.model.program) if config.model.program is not None else None
        model = make_model(
            config,
            schema,
            outputs=None if classes is None else len(classes) or 1,
            folder=folder,
            weights=read_weights(folder / config.model.weights) if config.model.weights is not None else None,
            program=program,
        )
        classes = tuple(map(str, range(model.outputs))) if classes is None else classes
        progress.advance(loading)
        train = load_rows(path, config, schema, classes)
        if config.reference.calibration is not None:
            heldout = load_rows(folder / config.reference.calibration, config, schema, classes)
        else:
            train, heldout = _split(train, config.reference.calibration_fraction, config.reference.seed)
            warnings.append(
                "reference.calibration is not given: calibration rows are split off reference.path; if the model was "
                "trained on them, false alarms will be more frequent than the budget"
            )
        progress.advance(loading)

        def track(steps: range, stage: str) -> Iterable[int]:
            return progress.track(steps, description=stage)

        fitted = fit(
            config,
            schema=schema,
            classes=classes,
            model=model,
            train=train,
            heldout=heldout,
            program=program,
            track=track,
        )
        saving = progress.add_task("saving", total=1)
        bundle = fitted.bundle.save(out, source=config_path.read_text(encoding="utf-8"))
        progress.advance(saving)
    report = Console()
    for warning in [*warnings, *fitted.warnings]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    _print(fitted, report)
    for remark in remarks:
        report.print(remark(fitted.bundle), highlight=False, markup=False, soft_wrap=True)
    report.print(f"{out}  {bundle.id}", highlight=False, markup=False, soft_wrap=True)
    return fitted


def _classes(
    given: tuple[str, ...] | None, labels: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None, *, regression: bool
) -> tuple[str, ...] | None:
    """Give the labels: declared, or sorted from the reference; None where only the model's width can tell."""
    if regression:
        return ()
    if given is not None or labels is None:
        return given
    names = class_names(labels)
    try:
        for name in names:
            check_name(name)
    except ValueError as unnamed:
        raise Mistake(f"reference.label: {unnamed}, or write a missing label as the file's missing value") from None
    if len(names) < 2:  # noqa: PLR2004
        raise Mistake(f"model.classes: the reference has the label {list(names)} alone; declare the labels")
    return names


def _split(rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    cut = round(len(rows) * fraction)
    if not 0 < cut < len(rows):
        raise Mistake(f"reference.calibration_fraction: {fraction:g} of {len(rows)} rows leaves one part without any")
    return rows.take(order[cut:]), rows.take(order[:cut])


def _print(fitted: Fitted, console: Console) -> None:
    config = fitted.bundle.config
    grid = Grid(
        title=f"{config.name} {config.version}: false-alarm budget {config.false_alarm_budget:.3%}, {config.guarantee}"
    )
    for name in ("guard", "budget", "flags at p <=", "held-out false alarms", "95 % interval"):
        grid.add_column(name, justify="left" if name == "guard" else "right", no_wrap=True)
    for report in fitted.guards:
        threshold = f"{report.threshold:.5f}" if report.threshold else "never"
        grid.add_row(report.name, f"{report.share:.1%}", threshold, *_rate(report.false_alarms))
    grid.add_row("any", "100.0%" if fitted.guards else "", "", *_rate(fitted.any_guard), end_section=True)
    if fitted.violations.flagged:
        grid.add_row("declared bounds", "apart", "", *_rate(fitted.violations))
    console.print(grid)


def _rate(alarms: FalseAlarms | None) -> tuple[str, str]:
    if alarms is None:
        return "too few rows", ""
    return with_interval(proportion(alarms.flagged, alarms.rows))
