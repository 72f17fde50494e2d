"""The commands that read a config: fit, check, tune and schema."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guards.cli.app import AsJson, remarks
from guards.config.config import Config

__all__ = ["check", "fit", "schema", "tune"]

Strict = Annotated[
    bool, typer.Option("--strict", help="treat warnings as errors: exit with status 2 and write nothing")
]


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


def check(
    config: Annotated[Path, typer.Argument(help="the YAML config")],
    *,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Print how a config's model and files are understood, and how accurate the model is, without fitting."""
    from guards.cli.check import run as run_check  # noqa: PLC0415

    run_check(config, Console(stderr=True), as_json=as_json, strict=strict)


def tune(  # noqa: PLR0913 - one parameter for each option
    config: Annotated[Path, typer.Argument(help="the YAML config")],
    suspect: Annotated[Path, typer.Option(help="a file of rows that should be flagged; labels are not read")],
    guard: Annotated[
        str | None, typer.Option(help="the guard to tune; default: the first one that reads the model's output")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="how many choices to try")] = 100,
    latency_us: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="the most microseconds a row that all guards together may take, in batches of 32 rows; default: 60, "
            "or what the guards take now if that is more",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="the seed of the splits and of the search")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="the new config, in the same folder; default: CONFIG.tuned.yaml")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Search the detector of a guard for your own suspect rows, at the same false-alarm budget.

    Exit status 3 if nobody can tell, on rows that were not searched on, whether the result is better.
    """
    from guards.cli.requirements import CANNOT_TELL  # noqa: PLC0415
    from guards.cli.tune import Asked  # noqa: PLC0415
    from guards.cli.tune import tune as search  # noqa: PLC0415
    from guards.cli.tuning.tables import show  # noqa: PLC0415

    asked = Asked(guard, trials, latency_us, seed, config.with_suffix(".tuned.yaml") if out is None else out)
    result = search(config, suspect, asked, Console(stderr=True))
    if as_json:
        typer.echo(json.dumps(result))
    else:
        show(result, Console())
    if not result["improved"]:
        raise typer.Exit(CANNOT_TELL)


def schema() -> None:
    """Print the JSON Schema of the config."""
    typer.echo(
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(), indent=2)
    )
