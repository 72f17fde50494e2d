"""``guardhouse fit``: from a config to a bundle."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from guards.bundle import Bundle
from guards.cli.configs import load_config
from guards.cli.intervals import proportion, with_interval
from guards.cli.notices import print_notices
from guards.false_alarms import FalseAlarms
from guards.fitting import Fitted, fit
from guards.notices import Notices
from guards.preparation import prepare

__all__ = ["run"]


def run(config_path: Path, out: Path, console: Console, remarks: Sequence[Callable[[Bundle], str]] = ()) -> Fitted:
    """Load model and data, fit, save, and print what came out, and what ``remarks`` say of the bundle.

    ``console`` shows progress and warnings.

    Raises:
        Mistake: something in the config or a file is wrong.
    """
    config = load_config(config_path)
    notices = Notices()
    with Progress(
        TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        loading = progress.add_task("data", total=3)
        prepared = prepare(config, config_path.resolve().parent, notices, lambda: progress.advance(loading))

        def track(steps: range, stage: str) -> Iterable[int]:
            return progress.track(steps, description=stage)

        fitted = fit(
            config,
            schema=prepared.schema,
            classes=prepared.classes,
            model=prepared.model,
            train=prepared.train,
            heldout=prepared.heldout,
            program=prepared.program,
            track=track,
        )
        saving = progress.add_task("saving", total=1)
        bundle = fitted.bundle.save(out, source=config_path.read_text(encoding="utf-8"))
        progress.advance(saving)
    report = Console()
    print_notices(notices, console, warnings=fitted.warnings)
    _print(fitted, report)
    for remark in remarks:
        report.print(remark(fitted.bundle), highlight=False, markup=False, soft_wrap=True)
    report.print(f"{out}  {bundle.id}", highlight=False, markup=False, soft_wrap=True)
    return fitted


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
