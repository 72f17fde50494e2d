"""The commands that read a config: fit, check and schema."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guards.cli.app import AsJson, remarks
from guards.config.config import Config

__all__ = ["check", "fit", "schema"]

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


def schema() -> None:
    """Print the JSON Schema of the config."""
    typer.echo(
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(), indent=2)
    )
