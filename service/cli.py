"""``guardhouse serve``, ``feedback``, ``drain`` and ``wait``, beside the commands of the library."""

import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from guards.bundle import Bundle
from guards.cli import app, remarks, run
from guards.types import Mistake
from service.drain import drain
from service.settings import Deployment, Settings
from service.wait import wait

__all__ = ["app", "run"]

ROOT = Path(__file__).resolve().parent.parent
GRACE_SECONDS = 60
SHOWN_IDS = 5

app.command()(drain)
app.command()(wait)


def _series(bundle: Bundle) -> str:
    from service.routing import count_series  # noqa: PLC0415 - what only fit needs

    return f"a server of it has {count_series(bundle)} Prometheus series, and no request adds one"


remarks.append(_series)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="where to listen")] = 3000,
    host: Annotated[str, typer.Option(help="the address to listen on")] = "0.0.0.0",  # noqa: S104 - a pod's
    config: Annotated[
        Path | None,
        typer.Option(envvar="GUARDHOUSE_CONFIG", help="the config beside the builder's code, with deploy-time changes"),
    ] = None,
) -> None:
    """Serve a bundle over HTTP with BentoML."""
    environment = {**os.environ, "GUARDHOUSE_BUNDLE": str(bundle.resolve()), "BENTOML_DO_NOT_TRACK": "True"}
    if config is not None:
        environment["GUARDHOUSE_CONFIG"] = str(config.resolve())
    settings = Settings.from_environment(environment)
    deployment = Deployment.read(settings)
    if "BENTOML_HOME" not in environment and not _home_is_ours():
        environment["BENTOML_HOME"] = str(_other_home(settings.state_folder))
    _refuse_taken(f"--host {host} --port {port}", host, port)
    grpc_port = deployment.config.server.grpc_port
    if grpc_port == port:
        raise Mistake(f"server.grpc_port {port}: HTTP is served there; choose another")
    if grpc_port is not None:
        _refuse_taken(f"server.grpc_port {grpc_port} on {host}", host, grpc_port)
    command = [
        sys.executable, "-m", "bentoml", "serve", "service.app:Gateway", "--working-dir", str(ROOT),
        "--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(GRACE_SECONDS),
    ]  # fmt: skip
    # From the checkout, so that a folder called `service` where the user stands cannot shadow ours.
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 - this very interpreter


@app.command()
def feedback(
    file: Annotated[Path, typer.Option(help="a CSV with the columns id, label and, where known, probability")],
    url: Annotated[str, typer.Option(help="the server, such as http://localhost:3000")],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="correct labels that were given before")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output")] = False,
) -> None:
    """Tell a server what turned out to be true; sent again, the same file counts once.

    The whole file is checked before any of it is sent. A line without a label is skipped.
    """
    from service.feedback_file import read_outcomes  # noqa: PLC0415 - what only this command needs
    from service.sending import NotSentError, Sender  # noqa: PLC0415

    sender = Sender(url)
    result: dict[str, Any] = {}
    console = Console(stderr=True)
    try:
        read = read_outcomes(file, sender.labels(), replace=replace)
        with Progress(console=console) as progress:
            task = progress.add_task("outcomes", total=len(read.outcomes))
            for sent, so_far in sender.send(read):
                progress.advance(task, sent)
                result = so_far
    except (NotSentError, Mistake) as trouble:
        if result:  # what was sent before is stored, and counts once if it is sent again
            _show(result, as_json=as_json)
        if isinstance(trouble, Mistake):
            raise
        console.print(str(trouble), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    finally:
        sender.close()
    _show(result, as_json=as_json)


def _show(result: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    grid = Table("outcomes", "", "ids")
    for name, found in result.items():
        listed = found if isinstance(found, list) else []
        ids = [*listed[:SHOWN_IDS], *(["..."] if len(listed) > SHOWN_IDS else [])]
        grid.add_row(name, str(len(listed) if isinstance(found, list) else found), escape(", ".join(ids)))
    Console().print(grid)


def _home_is_ours() -> bool:
    """Tell whether BentoML can keep its files at home; a number without a passwd entry may have none."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path's raises an error where there is none
    ours = home / "bentoml"
    return home.is_absolute() and os.access(ours if ours.exists() else home, os.W_OK | os.X_OK)


def _other_home(state: Path) -> Path:
    home = state.resolve() / "bentoml"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        why = f"there is no home to write to, and {home} cannot be made ({refused.strerror})"
        raise Mistake(f"BENTOML_HOME: {why}; name a folder that can be written to") from None
    return home


def _refuse_taken(key: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as taken:
            raise Mistake(f"{key}: cannot listen there ({taken.strerror}); choose another") from None


if __name__ == "__main__":
    run()
