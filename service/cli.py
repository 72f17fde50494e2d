"""``guardhouse serve``, beside the commands of the library."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from guards.cli import app, run
from guards.types import Mistake
from service.settings import Deployment, Settings

__all__ = ["app", "run"]

ROOT = Path(__file__).resolve().parent.parent
GRACE_SECONDS = 60


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
    deployment = Deployment.read(Settings.from_environment(environment))
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
