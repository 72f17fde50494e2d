"""``guardhouse predict``: answers the rows of a file without a server, and counts what happened to them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from guards.bundle.batches import as_served, batches_of
from guards.bundle.bundle import Bundle
from guards.cli.answer_columns import AnswerColumns
from guards.cli.answer_file import AnswerFile
from guards.cli.detection import Interval
from guards.cli.printed_notices import noticing
from guards.cli.requirements import Requirement, judge
from guards.data.row_parts import Part, row_parts
from guards.data.value_spread import compare_spread
from guards.model.chunked_run import refusing
from guards.pipeline import Pipeline
from guards.statistics.proportions import proportion
from guards.types import Action, Mistake, Result

__all__ = ["Predicted", "predict", "show"]


class Flags(TypedDict):
    """How often a guard flagged a row, also if it is invisible or in shadow mode, and on how many rows it crashed."""

    flag_rate: float | None
    flag_interval: Interval | None
    crashed: int


class Predicted(TypedDict):
    """The JSON document of ``predict --json``.

    ``actions`` counts rows by the action that the file shows, ``touched`` is the share whose action is not allow.
    """

    rows: int
    actions: dict[str, int]
    touched: float | None
    touched_interval: Interval | None
    guards: dict[str, Flags]


def predict(
    bundle: Bundle, path: Path, out: Path, console: Console, requirements: Sequence[Requirement] = ()
) -> Predicted:
    """Answer the rows of a file into the file ``out``, with a progress bar on ``console``.

    The rows run in batches of ``server.max_batch_rows``, so a server answers the same batch with the same bits.

    Raises:
        Mistake: the file does not fit the bundle, ``out`` cannot be written, or a requirement names no figure.
    """
    if out.exists() and path.exists() and out.samefile(path):
        raise Mistake(f"--out {out}: this is the file of the rows; choose another name")
    pipeline, columns, answers = bundle.pipeline(), AnswerColumns(bundle), AnswerFile(out)
    size = bundle.config.server.max_batch_rows
    count = _Count(pipeline.names)
    judge(requirements, count.document())  # an unknown name is refused now, and not after the last row
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with noticing(console) as notices:
        total, parts = row_parts(path, bundle.config, bundle.schema, notices, multiple=size)
        with Progress(*bars, console=console, disable=not console.is_terminal, transient=True) as progress, answers:
            task = progress.add_task("rows", total=total)
            for place, part in enumerate(parts):
                if not place:
                    schema = bundle.schema
                    compare_spread(part.rows, schema.spread, kind=schema.kind, path=path, notices=notices)
                results = []
                for result in _run(bundle, pipeline, part, size):
                    results.append(result)
                    progress.advance(task, len(result))
                table = columns.table(results, part.ids, part.rows.groups)
                count.add(results, table["action"].to_pylist())
                answers.write(table)
    return count.document()


def _run(bundle: Bundle, pipeline: Pipeline, part: Part, size: int) -> Iterator[Result]:
    for batch in batches_of(bundle, part.rows, ids=part.ids, size=size):
        padded = as_served(batch, size)
        with refusing(bundle.model, padded.x):
            yield pipeline(padded).first(len(batch))


class _Count:
    """Counts actions, flags and crashes."""

    def __init__(self, guards: tuple[str, ...]) -> None:
        self._guards, self._actions = guards, Counter[str]()
        self._flagged = self._crashed = torch.zeros(len(guards), dtype=torch.int64)

    def add(self, results: list[Result], actions: list[str]) -> None:
        self._actions.update(actions)
        for result in results:
            self._flagged = self._flagged + result.verdict.flagged.sum(1).cpu()
            self._crashed = self._crashed + result.verdict.p_value.isnan().sum(1).cpu()

    def document(self) -> Predicted:
        """Give the counts and shares; a share of no rows is None."""
        rows = self._actions.total()
        touched, touched_interval = _share(rows - self._actions[Action.ALLOW.label], rows)
        guards: dict[str, Flags] = {}
        for name, flagged, crashed in zip(self._guards, self._flagged.tolist(), self._crashed.tolist(), strict=True):
            rate, interval = _share(flagged, rows)
            guards[name] = {"flag_rate": rate, "flag_interval": interval, "crashed": crashed}
        return {
            "rows": rows,
            "actions": {action.label: self._actions[action.label] for action in Action},
            "touched": touched,
            "touched_interval": touched_interval,
            "guards": guards,
        }


def _share(hits: int, rows: int) -> tuple[float, Interval] | tuple[None, None]:
    if not rows:
        return None, None
    share = proportion(hits, rows)
    return share.value, share.interval


def show(found: Predicted, out: Path, console: Console) -> None:
    """Print the counts for people."""
    actions = ", ".join(f"{count} {action}" for action, count in found["actions"].items())
    console.print(f"{out}: {found['rows']} rows: {actions}", highlight=False, markup=False, soft_wrap=True)
    grid = Grid()
    for name in ("", "flagged", "95 % interval", "crashed on"):
        grid.add_column(name, justify="right" if name else "left", overflow="fold")
    for name, flags in found["guards"].items():
        grid.add_row(name, *_percent(flags["flag_rate"], flags["flag_interval"]), f"{flags['crashed']} rows")
    grid.add_row("rows touched", *_percent(found["touched"], found["touched_interval"]), "")
    console.print(grid)


def _percent(value: float | None, interval: Interval | None) -> tuple[str, str]:
    if value is None or interval is None:
        return "", ""
    return f"{value:.2%}", f"[{interval[0]:.2%}, {interval[1]:.2%}]"
