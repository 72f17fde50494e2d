"""``guardhouse replay``: runs the monitors over a time-ordered file, and prints the alarms that they would raise."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from guards.bundle.bundle import Bundle
from guards.cli.printed_notices import noticing
from guards.cli.replay_tables import first_alarms, pivot
from guards.data.rows import load_rows
from guards.data.value_spread import compare_spread
from guards.replay import Replay, Trace, replay
from guards.types import Rows

__all__ = ["run", "show"]

SHOWN = 100


def run(bundle: Bundle, stream: Path, out: Path | None, console: Console) -> Replay:
    """Replay a file with a progress bar on ``console``, and write plots and a page if ``out`` is given.

    Raises:
        Mistake: the file does not fit the bundle, or ``out`` cannot be written to.
    """
    with noticing(console) as notices:
        rows = load_rows(stream, bundle.config, bundle.schema, bundle.classes, notices)
        compare_spread(rows, bundle.schema.spread, kind=bundle.schema.kind, path=stream, notices=notices)
    if out is None:
        return _tracked(bundle, rows, 0, console)[0]
    from guards.cli.replay_plots import SAMPLES, folder, write  # noqa: PLC0415 - matplotlib takes a second to import

    folder(out)
    result, trace = _tracked(bundle, rows, SAMPLES, console)
    write(out, f"{bundle.config.name} {bundle.config.version}: {stream.name}", result, trace)
    return result


def _tracked(bundle: Bundle, rows: Rows, samples: int, console: Console) -> tuple[Replay, Trace]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("rows", total=len(rows))
        return replay(bundle, rows, samples=samples, advance=lambda done: progress.advance(task, done))


def show(result: Replay, console: Console) -> None:
    """Print a replay for people."""
    if result["alarms"]:
        _print(f"{len(result['alarms'])} alarms in {result['rows']} rows", *first_alarms(result), console)
    else:
        console.print(f"no alarm in {result['rows']} rows", highlight=False)
    for name, reported in result["monitors"].items():
        _print(f"{name} ({reported['kind']}): {reported['state']}", *pivot(reported), console)


def _print(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]], console: Console) -> None:
    grid = Grid(title=escape(title), title_justify="left")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="right" if index else "left", overflow="fold")
    for line in lines[:SHOWN]:
        grid.add_row(*map(escape, line))
    console.print(grid)
    if len(lines) > SHOWN:
        console.print(f"... and {len(lines) - SHOWN} more, which --json lists", highlight=False)
