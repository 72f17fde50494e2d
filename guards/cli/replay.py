"""``guardhouse replay``: when and what the monitors would have alarmed on a time-ordered file."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from guards.bundle import Bundle
from guards.cli.notices import noticing
from guards.data.rows import load_rows
from guards.data.value_spread import compare_spread
from guards.replay import Replay, Reported, Trace, replay
from guards.types import Rows

__all__ = ["first_alarms", "pivot", "run", "show"]

SHOWN = 100


def run(bundle: Bundle, stream: Path, out: Path | None, console: Console) -> Replay:
    """Replay a file with a progress bar on ``console``, and write plots and a page where ``out`` is given.

    Raises:
        Mistake: the file does not fit the bundle, or ``out`` cannot be written to.
    """
    with noticing(console) as notices:
        rows = load_rows(stream, bundle.config, bundle.schema, bundle.classes, notices)
        compare_spread(rows, bundle.schema.spread, kind=bundle.schema.kind, path=stream, notices=notices)
    if out is None:
        return _tracked(bundle, rows, 0, console)[0]
    from guards.cli.plots import SAMPLES, folder, write  # noqa: PLC0415 - matplotlib takes a second to import

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


def first_alarms(result: Replay) -> tuple[list[str], list[list[str]]]:
    """Lay the alarms out as a table: one line for each monitor and stream, in the order of their first alarms."""
    rows: dict[tuple[str, str], list[int]] = {}
    for alarm in result["alarms"]:
        rows.setdefault((alarm["monitor"], alarm["stream"] or ""), []).append(alarm["row"])
    lines = [[monitor, stream, str(at[0]), str(at[-1]), str(len(at))] for (monitor, stream), at in rows.items()]
    return ["monitor", "stream", "first at row", "last at row", "alarms"], lines


def pivot(reported: Reported) -> tuple[list[str], list[list[str]]]:
    """Lay a report out as a table: one line for what the statistics are of, one column for each name of theirs."""
    names = list(dict.fromkeys(str(statistic["name"]) for statistic in reported["statistics"]))
    lines: dict[str, dict[str, str]] = {}
    for statistic in reported["statistics"]:
        labels = statistic["labels"]
        assert isinstance(labels, dict)  # noqa: S101
        line = lines.setdefault(", ".join(map(str, labels.values())), {"n": str(statistic["n"])})
        line[str(statistic["name"])] = _figure(statistic["value"], statistic["interval"])
    return ["of", *names, "n"], [[of, *(line.get(name, "") for name in [*names, "n"])] for of, line in lines.items()]


def _figure(value: object, interval: object) -> str:
    if not isinstance(value, int | float):
        return "-"
    if not isinstance(interval, list):
        return f"{value:.6g}"
    low, high = ("-" if end is None else f"{end:.3g}" for end in interval)
    return f"{value:.4g} [{low}, {high}]"
