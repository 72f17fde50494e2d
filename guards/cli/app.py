"""The command line's application: what all commands share, and how a user's mistake ends a command."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from guards.bundle.bundle import Bundle
from guards.cli.requirements import Requirement, judge, status_of
from guards.types import Mistake
from guards.version import __version__

__all__ = ["AsJson", "BundleId", "Deployed", "Require", "app", "close", "load_bundle", "remarks", "run"]

Deployed = Annotated[
    Path | None,
    typer.Option(envvar="GUARDHOUSE_CONFIG", help="the config beside the builder's code, with deploy-time changes"),
]
BundleId = Annotated[
    str | None,
    typer.Option(help="the id that the bundle must have, sha256:..., as `fit` prints it; any other bundle is refused"),
]
Require = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="NAME>=VALUE",
        help="a bound (>=, <=, >, <) on a figure of the --json document, such as any.false_alarm_rate<=0.02; may be "
        "given several times; exit status 1 if one fails, 3 if none fails but an interval crosses a bound",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
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


def load_bundle(path: Path, config: Path | None, bundle_id: str | None) -> Bundle:
    """Load a bundle with a config's deploy-time changes and the builder's code beside the config, and test the bundle.

    Raises:
        Mistake: the bundle or the config is wrong, the bundle is not the bundle that was asked for, the config asks for
            a refit, or the bundle does not give its known answers.
    """
    from guards.config.load import load_config  # noqa: PLC0415

    parsed = None if config is None else load_config(config)
    folder = None if config is None else config.resolve().parent
    bundle = Bundle.load(path, config=parsed, folder=folder, bundle_id=bundle_id)
    bundle.run_self_test(bundle.pipeline())
    return bundle


def close(
    document: Mapping[str, Any],
    requirements: Sequence[Requirement],
    show: Callable[[Console], None],
    *,
    as_json: bool,
) -> None:
    """Print a command's result, as JSON or by ``show``, and a sentence for each requirement that does not hold.

    Raises:
        Mistake: a requirement names a figure that the document lacks.
        typer.Exit: a requirement fails, or nobody can tell.
    """
    judged = judge(requirements, document)
    if as_json:
        typer.echo(json.dumps({**document, "requirements": judged} if judged else document))
    else:
        show(Console())
    console = Console(stderr=True)
    for each in judged:
        if each["verdict"] != "holds":
            console.print(each["sentence"], highlight=False, markup=False, soft_wrap=True)
    if status := status_of(judged):
        raise typer.Exit(status)


def run() -> None:
    """Run the command line; a user's mistake ends with a sentence and status 2, never with a traceback."""
    try:
        app()
    except Mistake as mistake:
        console = Console(stderr=True)
        for sentence in mistake.sentences:
            console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        sys.exit(MISTAKE)
