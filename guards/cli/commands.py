"""The commands of the library; :mod:`service.cli` adds the commands that start a server and speak to servers."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guards.bundle.bundle import Bundle
from guards.config.config import Config
from guards.types import Mistake
from guards.version import __version__

__all__ = ["app", "run"]

Deployed = Annotated[
    Path | None,
    typer.Option(envvar="GUARDHOUSE_CONFIG", help="the config beside the builder's code, with deploy-time changes"),
]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Strict = Annotated[
    bool, typer.Option("--strict", help="treat warnings as errors: exit with status 2 and write nothing")
]
app = typer.Typer(
    name="guardhouse",
    help="Fit guards around a PyTorch model, measure them, and serve them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
MISTAKE = 2
remarks: list[Callable[[Bundle], str]] = []
"""Functions that describe a bundle which was just fitted, in one printed line each; the service adds its own."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"guardhouse {__version__}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fit guards around a PyTorch model, measure them, and serve them."""


@app.command()
def fit(
    config: Annotated[Path, typer.Argument(help="the YAML config")],
    out: Annotated[Path, typer.Option(help="the folder of the bundle; a bundle that is already there is replaced")],
    *,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Fit and calibrate every guard and monitor of a config, and write a bundle."""
    from guards.cli.fit import run as run_fit  # noqa: PLC0415 - imports what only this command needs

    run_fit(config, out, Console(stderr=True), remarks, as_json=as_json, strict=strict)


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="the YAML config")],
    *,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Print how a config's model and files are understood, and how accurate the model is, without fitting."""
    from guards.cli.check import run as run_check  # noqa: PLC0415

    run_check(config, Console(stderr=True), as_json=as_json, strict=strict)


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    clean: Annotated[Path, typer.Option(help="a file of rows that should pass")],
    suspect: Annotated[Path | None, typer.Option(help="a file of rows that should be flagged")] = None,
    config: Deployed = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Measure the fitted guards on rows of your choice, without a server."""
    from guards.cli.evaluate import evaluate as measure  # noqa: PLC0415
    from guards.cli.evaluate import show  # noqa: PLC0415
    from guards.cli.printed_notices import noticing  # noqa: PLC0415

    loaded = load_bundle(bundle, config)
    with noticing(Console(stderr=True)) as notices:
        result = measure(loaded, clean, suspect, notices)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        show(result, Console())


@app.command()
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


@app.command()
def explain(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    row: Annotated[str, typer.Option(help="a data file and a row of it, counted from 0: FILE:17")],
    method: Annotated[str | None, typer.Option(help="one of the methods that the config allows")] = None,
    target: Annotated[str | None, typer.Option(help="a label, or guard:NAME; default: the predicted label")] = None,
    out: Annotated[Path | None, typer.Option(help="the PNG file into which the explanation is drawn")] = None,
    config: Deployed = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Explain the model's answer for one row: print how much each input contributed."""
    from guards.cli.explain import explain as answer  # noqa: PLC0415
    from guards.cli.explain import show as show_explanation  # noqa: PLC0415

    document = answer(load_bundle(bundle, config), row, method=method, target=target, out=out)
    if as_json:
        typer.echo(json.dumps(document))
    else:
        show_explanation(document, out, Console())


@app.command()
def replay(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    stream: Annotated[Path, typer.Option(help="a file of rows in the order in which they arrived")],
    config: Deployed = None,
    out: Annotated[
        Path | None, typer.Option(help="a folder for the plots (PNG) and a page that holds them all (HTML)")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Run a time-ordered file through the monitors, and print which monitor would have alarmed, and when."""
    from guards.cli.replay import run as run_replay  # noqa: PLC0415
    from guards.cli.replay import show  # noqa: PLC0415

    result = run_replay(load_bundle(bundle, config), stream, out, Console(stderr=True))
    if as_json:
        typer.echo(json.dumps(result))
    else:
        show(result, Console())


@app.command()
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


@app.command()
def schema() -> None:
    """Print the JSON Schema of the config."""
    typer.echo(
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(), indent=2)
    )


def load_bundle(bundle: Path, config: Path | None) -> Bundle:
    """Load a bundle with a config's deploy-time changes and the builder's code beside the config.

    Raises:
        Mistake: the bundle or the config is wrong, or the config asks for a refit.
    """
    from guards.config.load import load_config  # noqa: PLC0415

    parsed = None if config is None else load_config(config)
    return Bundle.load(bundle, config=parsed, folder=None if config is None else config.resolve().parent)


def run() -> None:
    """Run the command line; a user's mistake ends with a sentence and status 2, never with a traceback."""
    try:
        app()
    except Mistake as mistake:
        console = Console(stderr=True)
        for sentence in mistake.sentences:
            console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        sys.exit(MISTAKE)
