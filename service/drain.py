"""``guardhouse drain``: has a running server take its leave of the load balancer, before it is stopped.

Imports next to nothing: it runs inside of a pod that is about to go, beside a server that fills it.
"""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service.presence import Presence, Process, present, state_folder

__all__ = ["drain"]

HEARD_SECONDS = 10.0
"""How long a busy server may take to hear that it is to drain."""
STOP_SECONDS = 120.0
"""How long one that was told to stop may take to answer what it has, and go."""
FOLLOW_SECONDS = 2.0
"""How long a supervisor may take to follow its worker; one that stays would start another."""
POLL_SECONDS = 0.05
MISTAKE = 2


def drain(
    bundle: Annotated[
        Path | None, typer.Argument(envvar="GUARDHOUSE_BUNDLE", help="the bundle that is served", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="how long to wait, so that load balancers notice")] = 5.0,
    port: Annotated[int | None, typer.Option(help="which server, where several serve the bundle")] = None,
    state: Annotated[
        Path | None, typer.Option(envvar="GUARDHOUSE_STATE", help="the server's folder, by default beside the bundle")
    ] = None,
    *,
    stop: Annotated[
        bool, typer.Option("--stop", help="then stop it, and wait until it has answered all it has")
    ] = False,
) -> None:
    """Take a running server out of service: /readyz says 503, and every answer ends its connection.

    It goes on answering until it is stopped.
    """
    if bundle is None and state is None:
        _complain("name the bundle that is served, or set GUARDHOUSE_BUNDLE or GUARDHOUSE_STATE", MISTAKE)
    folder = state_folder(bundle or Path(), state)
    server = _find(folder, port)
    _send(server, signal.SIGUSR1)
    if not _until(lambda: _draining(folder, server) or not server.worker.alive(), HEARD_SECONDS):
        _complain(f"{_named(server)} did not react within {HEARD_SECONDS:g} s: is it stuck?")
    _say(f"{_named(server)} is draining: /readyz says 503, answers end their connections; waiting {seconds:g} s")
    left = _until(lambda: not server.worker.alive(), seconds)
    if left and (not stop or _until(lambda: not server.supervisor.alive(), FOLLOW_SECONDS)):
        _say("it has left already")
        return
    if not stop:
        _say("done: it answers what still comes, until it is stopped (SIGTERM)")
        return
    began = time.monotonic()
    _send(server, signal.SIGTERM)
    _say("told to stop; waiting for the requests in flight")
    if not _until(lambda: not (server.worker.alive() or server.supervisor.alive()), STOP_SECONDS):
        _complain(f"{_named(server)} is still there after {STOP_SECONDS:g} s")
    _say(f"it left after {time.monotonic() - began:.1f} s")


def _find(folder: Path, port: int | None) -> Presence:
    found = [server for server in present(folder) if port in (None, server.port)]
    if not found:
        which = "no server" if port is None else f"no server on port {port}"
        _complain(f"{which} is running with its state in {folder}")
    if len(found) > 1:
        ports = ", ".join(str(server.port) for server in found)
        _complain(f"several servers have their state in {folder}: choose one with --port, of {ports}")
    return found[0]


def _send(server: Presence, number: signal.Signals) -> None:
    process = server.worker if number == signal.SIGUSR1 else server.supervisor
    if process == server.supervisor and not process.alive():  # then the worker ends by itself, and sooner if asked to
        _say(_named_dead(process))
        process = server.worker
    try:
        process.signal(number)
    except ProcessLookupError:
        if process.replaced():
            _say(f"process {process.pid} is another program's by now, and was sent nothing")
    except PermissionError:
        _complain(f"{_named(server)} is another user's: it cannot be told anything")


def _draining(folder: Path, server: Presence) -> bool:
    return any(now.worker == server.worker and now.draining for now in present(folder))


def _until(true: Callable[[], bool], seconds: float) -> bool:
    """Wait for something; tell whether it came in time."""
    end = time.monotonic() + seconds
    while not (there := true()) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return there


def _named(server: Presence) -> str:
    return f"the server on port {server.port} (process {server.worker.pid})"


def _named_dead(process: Process) -> str:
    now = ", and its number is another program's by now" if process.replaced() else ""
    return f"the supervisor (process {process.pid}) has died{now}: the process that answers is told to stop"


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def _complain(sentence: str, status: int = 1) -> NoReturn:
    sys.stderr.write(f"{sentence}\n")
    raise typer.Exit(status)
