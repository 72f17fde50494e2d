"""``guardhouse explain``: explains the model's answer for one row of a file."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from guards.bundle.bundle import Bundle
from guards.cli.printed_notices import noticing
from guards.data.rows import load_rows
from guards.explainers.base import NotExplainableError
from guards.explanations.explain import Question, UnfitQuestionError, WithheldError, check
from guards.explanations.explain import explain as explain_rows
from guards.explanations.pictures import NoPictureError, picture
from guards.model.chunked_run import run_model
from guards.sentences import counted
from guards.types import Mistake

__all__ = ["explain", "show"]

MOST_SHOWN = 20


def explain(
    bundle: Bundle, row: str, *, method: str | None = None, target: str | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Explain the row ``row``, such as ``FILE:17``, and draw the explanation into the PNG file ``out``.

    Raises:
        Mistake: there is no such row, or the row cannot be explained by this method for this target.
    """
    path, _, number = row.rpartition(":")
    if not path or not number.isdecimal():
        raise Mistake(f"--row {row}: name a file and a row of it, counted from 0, such as test.csv:17")
    with noticing(Console(stderr=True)) as notices:
        rows = load_rows(Path(path), bundle.config, bundle.schema, bundle.classes, notices)
    if int(number) >= len(rows):
        raise Mistake(f"--row {row}: the file has {counted(len(rows), 'row')}, counted from 0")
    question = Question(method=method, target=target)
    x = rows.x[int(number) : int(number) + 1]
    try:
        check(question, bundle.config, bundle.schema, bundle.classes)
        run_model(bundle.model, x)  # if the model does not take the row, this says so
        (found,) = explain_rows(bundle, bundle.pipeline(), x, question)
        if out is not None:
            out.write_bytes(picture(found, bundle.schema, title=bundle.config.name))
    except UnfitQuestionError as unfit:
        raise Mistake(f"--{unfit.parameter}: {unfit.message}") from unfit
    except WithheldError as withheld:
        raise Mistake(
            f"--row {row}: its verdict is {withheld.actions[0].label}; set `explain.rejected: true` to explain it"
        ) from withheld
    except (NotExplainableError, NoPictureError) as why:
        raise Mistake(str(why)) from why
    return found.document(bundle.schema)


def show(document: dict[str, Any], out: Path | None, console: Console) -> None:
    """Print an explanation as a table, the largest contributions first."""
    values = document["attributions"]
    what = document["target"] or document["label"] or "the value"
    if isinstance(values, dict):
        grid = Grid(title=f"{what}, by {document['method'].replace('_', ' ')}")
        grid.add_column("column")
        grid.add_column("contribution", justify="right")
        for name, value in sorted(values.items(), key=lambda item: -abs(item[1]))[:MOST_SHOWN]:
            grid.add_row(name, f"{value:+.4g}")
        console.print(grid)
    else:
        console.print(f"{what}, by {document['method'].replace('_', ' ')}", highlight=False, markup=False)
    for name in ("output_value", "baseline_value", "convergence_delta"):
        if document[name] is not None:
            console.print(f"{name.replace('_', ' ')}: {document[name]:.6g}", highlight=False)
    if document["causes"]:
        console.print(f"causes: {', '.join(document['causes'])}", highlight=False, markup=False)
    for near in document["neighbours"]:
        console.print(
            f"near: row {near['index']}, {near['label']}, distance {near['distance']:.4g}",
            highlight=False,
            markup=False,
        )
    if out is not None:
        console.print(str(out), highlight=False, markup=False, soft_wrap=True)
