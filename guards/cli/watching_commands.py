"""The commands that help to watch a running server: rules and groups."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guards.types import Mistake

__all__ = ["groups", "rules"]


def rules(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    window: Annotated[
        list[str] | None, typer.Option(help="how far back to look; may be given several times; default: 1h and 1d")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the file to write; default: standard output")] = None,
) -> None:
    """Write Prometheus rules that record the drift of every stream over all replicas, and alert on it."""
    from guards.cli.rules import WINDOWS, ordered_bins, render  # noqa: PLC0415

    text = render(ordered_bins(bundle), window or WINDOWS)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as failure:
        raise Mistake(f"--out {out}: cannot be written ({failure.strerror})") from None


def groups(
    url: Annotated[str, typer.Option(help="the server's address, such as http://localhost:3000")],
    out: Annotated[Path | None, typer.Option(help="a .png, .svg or .pdf file into which the table is drawn")] = None,
    of: Annotated[
        str,
        typer.Option(help="whose rows: of the served `bundle`, of its `version`, or of the model's `lifetime`"),
    ] = "bundle",
) -> None:
    """Print the rates of each group as a running server counts them, with their intervals."""
    from guards.cli.groups import draw, fetch, show  # noqa: PLC0415

    monitors = fetch(url, of=of)
    show(monitors, Console())
    if out is not None:
        draw(monitors, out)
