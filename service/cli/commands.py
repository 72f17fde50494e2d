"""Adds the commands ``serve``, ``feedback``, ``drain`` and ``wait`` to the commands of the library."""

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

from guards.bundle.bundle import Bundle
from guards.cli.app import BundleId
from guards.cli.commands import app, remarks, run
from guards.types import Mistake
from service.cli.drain import drain
from service.cli.keys import keys
from service.cli.monitors import monitors
from service.cli.wait import wait
from service.engine.deployment import Deployment
from service.lifecycle.addresses import read_settings
from service.lifecycle.exposure import refuse_exposed

__all__ = ["app", "run"]

ROOT = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 60
SHOWN_IDS = 5

app.command()(drain)
app.command()(wait)
app.add_typer(keys, name="keys")
app.add_typer(monitors, name="monitors")


def _series(bundle: Bundle) -> str:
    from service.engine.describe import described  # noqa: PLC0415 - only the command fit needs these
    from service.explain.routes import CODES  # noqa: PLC0415
    from service.lifecycle.assembly import codes_of  # noqa: PLC0415
    from service.telemetry.metrics.series_count import count_series  # noqa: PLC0415

    routes = codes_of(described(bundle), CODES)
    return f"a server of it has {count_series(bundle, routes)} Prometheus series, and no request adds one"


remarks.append(_series)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="a bundle written by fit")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="the port to listen on")] = 3000,
    host: Annotated[str, typer.Option(help="the address to listen on; 0.0.0.0: every address")] = "127.0.0.1",
    config: Annotated[
        Path | None,
        typer.Option(envvar="GUARDHOUSE_CONFIG", help="the config beside the builder's code, with deploy-time changes"),
    ] = None,
    bundle_id: BundleId = None,
    *,
    plain: Annotated[bool, typer.Option("--plain", help="start the same processes without BentoML")] = False,
    opened: Annotated[
        bool, typer.Option("--open", help="let everybody who reaches the server ask, on any address and without a key")
    ] = False,
) -> None:
    """Serve a bundle over HTTP with BentoML."""
    environment = {**os.environ, "GUARDHOUSE_BUNDLE": str(bundle.resolve()), "BENTOML_DO_NOT_TRACK": "True"}
    if config is not None:
        environment["GUARDHOUSE_CONFIG"] = str(config.resolve())
    if bundle_id is not None:
        environment["GUARDHOUSE_BUNDLE_ID"] = bundle_id
    if opened:
        environment["GUARDHOUSE_OPEN"] = "1"
    settings = read_settings(environment)
    refuse_exposed(host, settings)
    deployment = Deployment.read(settings)
    if "BENTOML_HOME" not in environment and not _home_is_ours():
        environment["BENTOML_HOME"] = str(_other_home(settings.state_folder))
    _refuse_taken(f"--host {host} --port {port}", host, port)
    grpc_port = deployment.config.server.grpc_port
    if grpc_port == port:
        raise Mistake(f"server.grpc_port {port}: HTTP is served there; choose another")
    if grpc_port is not None:
        _refuse_taken(f"server.grpc_port {grpc_port} on {host}", host, grpc_port)
    command = [sys.executable, "-m", "service.lifecycle.plain", host, str(port)]
    if not plain:
        command = [
            sys.executable, "-m", "bentoml", "serve", "service.app:Gateway", "--working-dir", str(ROOT),
            "--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(GRACE_SECONDS),
        ]  # fmt: skip
    # Change to the source folder, so that a folder `service` in the user's working directory cannot shadow ours.
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 - the command is this Python interpreter


@app.command()
def feedback(
    file: Annotated[Path, typer.Option(help="a CSV with the columns id, label and, if known, probability")],
    url: Annotated[str, typer.Option(help="the server, such as http://localhost:3000")],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="correct labels that were given before")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output")] = False,
) -> None:
    """Send true labels or values to a server. If the same file is sent again, it counts once.

    The whole file is checked before the first outcome is sent. A line without a label is skipped.
    """
    from service.cli.feedback import NotSentError, Sender  # noqa: PLC0415
    from service.cli.outcomes_file import read_outcomes  # noqa: PLC0415 - only this command needs it

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
        if result:  # the outcomes sent before the failure are stored; if they are sent again, they count once
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
    """Return whether BentoML can keep its files in the home folder; a user without a passwd entry may have none."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.expanduser raises an error if there is no home
    ours = home / "bentoml"
    return home.is_absolute() and os.access(ours if ours.exists() else home, os.W_OK | os.X_OK)


def _other_home(state: Path) -> Path:
    home = state.resolve() / "bentoml"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        why = f"the home folder cannot be written to, and {home} cannot be made ({refused.strerror})"
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
