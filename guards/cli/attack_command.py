"""The command that attacks a guarded model: its options."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guards.cli.app import AsJson, BundleId, Deployed, Require, close, load_bundle
from guards.cli.requirements import read_requirements
from guards.types import Mistake

__all__ = ["attack"]


def attack(  # noqa: PLR0913, PLR0917 - each argument is an option of the command
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    data: Annotated[Path, typer.Option(help="a file of labelled rows; those that get their true label are attacked")],
    url: Annotated[
        str | None, typer.Option(help="a server of the bundle, which is asked in place of the pipeline in this process")
    ] = None,
    budget: Annotated[int, typer.Option(min=0, help="the most queries of an attack on one row")] = 1000,
    attacks: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[.MODE]", help="an attack, such as nes or pgd.aware; repeatable; default: all"),
    ] = None,
    eps: Annotated[
        list[float] | None, typer.Option(help="the largest change; repeatable; docs/attacks.md gives its units")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="how many rows are attacked")] = 50,
    steps: Annotated[int, typer.Option(min=1, help="the gradient steps of the white box")] = 100,
    restarts: Annotated[int, typer.Option(min=1, help="how often the white box starts")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="draws the rows and all random numbers")] = 0,
    keys: Annotated[
        Path | None, typer.Option(help="with --url: a file of API keys, one a line; each is an account")
    ] = None,
    client_header: Annotated[
        str | None, typer.Option(help="with --url: the header by which the server knows clients; a value is an account")
    ] = None,
    config: Deployed = None,
    bundle_id: BundleId = None,
    require: Require = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Attack the guarded model: what attackers achieve, unseen by the guards or not; with --require, a gate for CI."""
    from guards.cli.attack import Asked, Server, show  # noqa: PLC0415
    from guards.cli.attack import attack as run_attack  # noqa: PLC0415

    if url is None and (keys is not None or client_header is not None):
        raise Mistake("--keys, --client-header: they name accounts of a server; give its --url")
    requirements = read_requirements(require)
    asked = Asked(attacks, eps, budget, rows, steps, restarts, seed)
    server = None if url is None else Server(url, keys, client_header)
    result = run_attack(load_bundle(bundle, config, bundle_id), data, asked, server, Console(stderr=True), requirements)
    close(result, requirements, lambda console: show(result, console), as_json=as_json)
