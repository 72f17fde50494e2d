"""What every benchmark prints: tables on standard error, and one JSON document on standard output."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.harness.machine import describe

__all__ = ["print_document", "print_table"]

WIDTH = 160


def print_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print named rows as a table; the columns are the keys of all rows, in the order in which they first come.

    Numbers have four significant digits; None, nan, and a column that a row lacks, are empty.
    """
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    console = Console(stderr=True, width=WIDTH)
    console.print(Text(title, style="bold"))
    grid = Table()
    grid.add_column(no_wrap=True)
    for column in columns:
        grid.add_column(Text(column), justify="right")
    for name, row in rows.items():
        grid.add_row(Text(name), *(Text(_cell(row.get(column))) for column in columns))
    console.print(grid)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"  # noqa: PLR2004 - four digits
    return str(value)


def print_document(benchmark: str, *, quick: bool, **figures: Any) -> None:  # noqa: ANN401 - any JSON
    """Print the JSON document: which benchmark, on which machine, and the figures.

    Dataclasses become objects; a number that is not finite becomes null.
    """
    document = {"benchmark": benchmark, "machine": describe(), "quick": quick, **figures}
    sys.stdout.write(json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
