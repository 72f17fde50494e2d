"""Prints what fit has understood; long lists are cut, and the rest is counted."""

from collections.abc import Mapping

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from guards.bundle.model_quality.likely_causes import said
from guards.bundle.model_quality.quality import Quality
from guards.cli.understanding.summary import ColumnSummary, Summary
from guards.sentences import counted, named

__all__ = ["show", "show_quality"]

SHOWN_COLUMNS, SHOWN_CLASSES, SHOWN_NAMES = 40, 20, 10
EXAMPLE_WIDTH, SHORTEST, WIDE = 16, 4, 100
TYPES = {"csv": "CSV"}
HEADS = ("column", "kind", "in file", "missing", "imputed", "scale", "examples")
"""The heads of the table of columns. A narrow table has no imputed values; if all types are equal, the title has it."""


def show(summary: Summary, console: Console) -> None:
    """Print the columns or the shape, the classes and the model."""
    _show_input(summary, console)
    if summary["classes"]:
        _show_classes(summary, console)
    model = summary["model"]
    weights = model["weights"] or "without model.weights"
    run = f"{model['precision']} on {model['device']}"
    features = f"{model['feature_width']} ({model['feature_layer']})"
    for line in (
        f"model: {model['source']} ({weights}), {model['parameters']:,} parameters, {run}",
        f"outputs: {model['outputs']} ({model['output']}){_names(summary)}; features: {features}",
    ):
        console.print(line, highlight=False, markup=False)


def _names(summary: Summary) -> str:
    names = [_cut(each["name"], EXAMPLE_WIDTH) for each in summary["classes"][:SHOWN_NAMES]]
    more = ", ..." if len(summary["classes"]) > SHOWN_NAMES else ""
    return f" for {', '.join(names)}{more}" if names else ""


def _show_input(summary: Summary, console: Console) -> None:
    rows, given = summary["rows"], summary["input"]
    given_rows = f"{rows['train']:,} training rows, {rows['calibration']:,} calibration rows"
    if given["kind"] != "tabular":
        numbers = f"{given['minimum']:.4g} to {given['maximum']:.4g}, mean {given['mean']:.4g}"
        line = f"input: {given['kind']} of shape {given['shape']}, {given['type']} in the file; to the model {numbers}"
        console.print(f"{line}\n{given_rows}", highlight=False, markup=False)
        return
    inputs = [column for column in summary["columns"] if column["role"] == "input"]
    types = {_type(column) for column in inputs}
    shown = {
        "in file": len(types) > 1,
        "imputed": console.width >= WIDE,
        "scale": any(column["scale"] not in (None, 1.0) for column in inputs),
    }
    source = f" (in the file: {types.pop()})" if len(types) == 1 else ""
    grid = Grid(title=f"{counted(len(inputs), 'column')}, in the model's order{source}\n{given_rows}")
    heads = [head for head in HEADS if shown.get(head, True)]
    for head in heads:
        grid.add_column(head, justify="right" if head in {"missing", "scale"} else "left", no_wrap=True)
    cells = [_cells(column, 16 if console.width < WIDE else 32) for column in inputs[:SHOWN_COLUMNS]]
    lines = [[each[head] for head in heads[:-1]] for each in cells]
    # The examples get the width that the other columns leave, and are cut if it is too small.
    taken = sum(max(cell_len(line[at]) for line in [heads, *lines]) + 3 for at in range(len(heads) - 1))
    room = max(console.width - taken - 4, len("examples"))
    for column, entries in zip(inputs, lines, strict=False):
        width = min(EXAMPLE_WIDTH, max(room // 3 - 2, SHORTEST))
        examples = _cut(", ".join(_cut(text, width) for text in column["examples"]), room)
        grid.add_row(*map(escape, entries), escape(examples))
    console.print(grid)
    if len(inputs) > SHOWN_COLUMNS:
        console.print(f"and {counted(len(inputs) - SHOWN_COLUMNS, 'more column')}", highlight=False)
    for role, what in (("label", "the label"), ("group", "groups"), ("unused", "not used by the model")):
        others = [column["name"] for column in summary["columns"] if column["role"] == role]
        if others:
            console.print(f"{what}: {named(others, SHOWN_COLUMNS, quoted=False)}", highlight=False, markup=False)


def _cells(column: ColumnSummary, name_width: int) -> dict[str, str]:
    imputed, missing = column["imputed"], column["missing"] or 0.0
    count = "" if column["categories"] is None else f" {column['categories']}"
    fill = f"{imputed:.4g}" if isinstance(imputed, float) else _cut(str(imputed), EXAMPLE_WIDTH)
    return {
        "column": _cut(column["name"], name_width),
        "kind": f"{column['kind']}{count}",
        "in file": _type(column),
        "missing": "0" if not missing else f"{missing:.1%}" if missing >= 0.001 else "< 0.1%",  # noqa: PLR2004
        "imputed": "none" if imputed is None else fill,
        "scale": "" if column["scale"] in (None, 1.0) else f"{column['scale']:g}",
    }


def _type(column: ColumnSummary) -> str:
    return TYPES.get(column["type"], column["type"])


def _cut(text: str, width: int) -> str:
    """Keep a value short, and on one line."""
    text = text if text.isprintable() and text.strip() == text else repr(text)
    while cell_len(text) > width:
        text = f"{text[:-2]}…"
    return text


def _show_classes(summary: Summary, console: Console) -> None:
    classes = summary["classes"]
    grid = Grid(title=f"{len(classes)} classes, in the order of the outputs")
    for name in ("output", "class", "training rows", "calibration rows"):
        grid.add_column(name, justify="left" if name == "class" else "right", overflow="fold")
    for index, each in enumerate(classes[:SHOWN_CLASSES]):
        shares = ["" if share is None else f"{share:.1%}" for share in (each["train"], each["calibration"])]
        grid.add_row(str(index), escape(each["name"]), *shares)
    if len(classes) > SHOWN_CLASSES:
        grid.add_row("", f"and {len(classes) - SHOWN_CLASSES} more", "", "")
    console.print(grid)


def show_quality(found: Mapping[str, Quality | None], rows: Mapping[str, int], console: Console) -> None:
    """Print the model's quality on the rows of each part; ``rows`` says how many each part has."""
    measured = next((quality for quality in found.values() if quality is not None), None)
    if measured is None:
        return
    regression = measured.measure == "r2"
    grid = Grid(title=f"{'R2 and RMSE' if regression else 'accuracy'} of the model as it was understood")
    rival = "the mean's RMSE" if regression else "majority class"
    for name in ("rows", "R2" if regression else "accuracy", *(("RMSE",) if regression else ()), rival):
        grid.add_column(name, justify="left" if name == "rows" else "right", no_wrap=name != rival)
    for part, quality in found.items():
        name = "training" if part == "train" else "calibration"
        if quality is None:
            grid.add_row(f"{name}: no labels", "", *[""] * (2 if regression else 1))
            continue
        used = f"{quality.rows:,}" if quality.rows == rows[part] else f"{quality.rows:,} of {rows[part]:,}"
        if regression:
            assert quality.rmse_interval is not None  # noqa: S101 - a regression has both
            low, high = quality.rmse_interval
            more = [f"{quality.rmse:.4g} [{low:.4g}, {high:.4g}]", f"{quality.rival_rmse:.4g}"]
        else:
            more = [f"{quality.rival:.1%} ({escape(str(quality.rival_name))})"]
        grid.add_row(f"{name}: {used}", escape(said(quality)), *(escape(text) for text in more))
    console.print(grid)
