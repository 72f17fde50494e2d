"""The command ``keys``: makes keys for the principals of a server."""

from pathlib import Path
from typing import Annotated

import typer

from guards.errors import Mistake
from service.keys.key_file import add_key
from service.keys.principal import SCOPES

__all__ = ["keys"]

keys = typer.Typer(no_args_is_help=True)


@keys.callback()
def _group() -> None:
    """Make keys for a server."""


@keys.command("new")
def new(
    name: Annotated[str, typer.Argument(help="the principal: who will use the key")],
    scope: Annotated[list[str], typer.Option(help=f"what the key may do, once for each: {', '.join(SCOPES)}")],
    file: Annotated[Path, typer.Option(envvar="GUARDHOUSE_API_KEYS_FILE", help="the file of keys; made if missing")],
) -> None:
    """Make a key, show it once, and write its SHA-256 into the file of keys.

    A principal may have several keys: make a new one, let the caller change to it, then delete the old line.
    """
    if wrong := [each for each in scope if each not in SCOPES]:
        raise Mistake(f"--scope {wrong[0]}: no scope; there are {', '.join(SCOPES)}")
    chosen = [each for each in SCOPES if each in scope]
    typer.echo(add_key(file, name, chosen))
    typer.echo(f"The key of {name} is shown once, above. {file} holds its SHA-256.", err=True)
