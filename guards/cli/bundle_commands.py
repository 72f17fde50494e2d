"""The commands that run a fitted bundle on data files, without a server: evaluate, predict, report, explain, replay."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guards.cli.app import AsJson, BundleId, Deployed, Require, close, load_bundle
from guards.cli.requirements import read_requirements

__all__ = ["evaluate", "explain", "predict", "replay", "report"]


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    clean: Annotated[Path, typer.Option(help="a file of rows that should pass")],
    suspect: Annotated[Path | None, typer.Option(help="a file of rows that should be flagged")] = None,
    config: Deployed = None,
    bundle_id: BundleId = None,
    require: Require = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Measure the fitted guards on rows of your choice, without a server; with --require, as a gate for CI."""
    from guards.cli.evaluate import evaluate as measure  # noqa: PLC0415
    from guards.cli.evaluate import show  # noqa: PLC0415
    from guards.cli.printed_notices import noticing  # noqa: PLC0415

    requirements = read_requirements(require)
    loaded = load_bundle(bundle, config, bundle_id)
    with noticing(Console(stderr=True)) as notices:
        result = measure(loaded, clean, suspect, notices)
    close(result, requirements, lambda console: show(result, console), as_json=as_json)


def predict(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    file: Annotated[Path, typer.Argument(help="a file of rows: CSV, Parquet, Feather or .npz; labels are not read")],
    out: Annotated[
        Path,
        typer.Option(help="the file of answers: .parquet, .csv or .csv.gz; if it exists, it is replaced at the end"),
    ],
    config: Deployed = None,
    bundle_id: BundleId = None,
    require: Require = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Answer the rows of a file, as a server of the bundle would, into a Parquet or CSV file."""
    from guards.cli.predict import predict as answer  # noqa: PLC0415
    from guards.cli.predict import show  # noqa: PLC0415

    requirements = read_requirements(require)
    found = answer(load_bundle(bundle, config, bundle_id), file, out, Console(stderr=True), requirements)
    close(found, requirements, lambda console: show(found, out, console), as_json=as_json)


def report(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    out: Annotated[Path, typer.Option(help="the HTML file to write")],
    clean: Annotated[
        Path | None, typer.Option(help="a file of rows that no step has seen, and that should pass")
    ] = None,
    suspect: Annotated[Path | None, typer.Option(help="a file of rows that should be flagged")] = None,
    config: Deployed = None,
    bundle_id: BundleId = None,
) -> None:
    """Write one HTML page about a bundle: its data, its fit, its confidence, its guards, its groups and its cost."""
    from guards.cli.report.command import run as run_report  # noqa: PLC0415

    folder = Path.cwd() if config is None else config.resolve().parent
    run_report(
        load_bundle(bundle, config, bundle_id), folder, out, clean=clean, suspect=suspect, console=Console(stderr=True)
    )
    typer.echo(out)


def explain(  # noqa: PLR0913 - each argument is an option of the command
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    row: Annotated[str, typer.Option(help="a data file and a row of it, counted from 0: FILE:17")],
    method: Annotated[str | None, typer.Option(help="one of the methods that the config allows")] = None,
    target: Annotated[str | None, typer.Option(help="a label, or guard:NAME; default: the predicted label")] = None,
    out: Annotated[Path | None, typer.Option(help="the PNG file into which the explanation is drawn")] = None,
    config: Deployed = None,
    bundle_id: BundleId = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Explain the model's answer for one row: print how much each input contributed."""
    from guards.cli.explain import explain as answer  # noqa: PLC0415
    from guards.cli.explain import show as show_explanation  # noqa: PLC0415

    document = answer(load_bundle(bundle, config, bundle_id), row, method=method, target=target, out=out)
    if as_json:
        typer.echo(json.dumps(document))
    else:
        show_explanation(document, out, Console())


def replay(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    stream: Annotated[Path, typer.Option(help="a file of rows in the order in which they arrived")],
    config: Deployed = None,
    bundle_id: BundleId = None,
    out: Annotated[
        Path | None, typer.Option(help="a folder for the plots (PNG) and a page that holds them all (HTML)")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Run a time-ordered file through the monitors, and print which monitor would have alarmed, and when."""
    from guards.cli.replay import run as run_replay  # noqa: PLC0415
    from guards.cli.replay import show  # noqa: PLC0415

    result = run_replay(load_bundle(bundle, config, bundle_id), stream, out, Console(stderr=True))
    if as_json:
        typer.echo(json.dumps(result))
    else:
        show(result, Console())
