"""``guardhouse drain``: makes a running server report not ready, so that load balancers leave it before it stops.

This module imports almost nothing, because the command runs in a pod in which the server may use most of the memory.
"""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service.lifecycle.pidfile import Process, Server, present
from service.settings import state_folder

__all__ = ["drain"]

HEARD_SECONDS = 10.0
"""How long a busy server may take to react to the signal to drain."""
STOP_SECONDS = 120.0
"""How long a server may take to end after the signal to stop; it first answers the requests in flight."""
FOLLOW_SECONDS = 2.0
"""How long a supervisor may take to end after its fronts; a supervisor that stays would start new fronts."""
POLL_SECONDS = 0.05
MISTAKE = 2


def drain(
    bundle: Annotated[
        Path | None, typer.Argument(envvar="GUARDHOUSE_BUNDLE", help="the bundle that is served", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="how many seconds load balancers get to notice")] = 5.0,
    port: Annotated[int | None, typer.Option(help="the server's port, if several servers serve the bundle")] = None,
    state: Annotated[
        Path | None, typer.Option(envvar="GUARDHOUSE_STATE", help="the server's folder, by default beside the bundle")
    ] = None,
    *,
    stop: Annotated[
        bool, typer.Option("--stop", help="then stop the server, and wait until it has answered every request")
    ] = False,
) -> None:
    """Take a running server out of service: /readyz returns 503, and every answer closes its connection.

    The server goes on answering requests until it is stopped.
    """
    if bundle is None and state is None:
        _complain("name the bundle that is served, or set GUARDHOUSE_BUNDLE or GUARDHOUSE_STATE", MISTAKE)
    folder = state_folder(bundle or Path(), state)
    server = _find(folder, port)
    _send(server, signal.SIGUSR1)
    if not _until(lambda: _draining(folder, server) or not server.alive(), HEARD_SECONDS):
        _complain(f"{_named(server)} did not react within {HEARD_SECONDS:g} s: is it stuck?")
    _say(f"{_named(server)} is draining: /readyz says 503, answers end their connections; waiting {seconds:g} s")
    left = _until(lambda: not server.alive(), seconds)
    if left and (not stop or _until(lambda: not server.supervisor.alive(), FOLLOW_SECONDS)):
        _say("it has left already")
        return
    if not stop:
        _say("done: it still answers new requests, until it is stopped (SIGTERM)")
        return
    began = time.monotonic()
    _send(server, signal.SIGTERM)
    _say("the signal to stop was sent; waiting for the requests in flight")
    if not _until(lambda: not (server.alive() or server.supervisor.alive()), STOP_SECONDS):
        _complain(f"{_named(server)} is still there after {STOP_SECONDS:g} s")
    _say(f"it left after {time.monotonic() - began:.1f} s")


def _find(folder: Path, port: int | None) -> Server:
    found = [server for server in present(folder) if port in (None, server.port)]
    if not found:
        which = "no server" if port is None else f"no server on port {port}"
        _complain(f"{which} is running with its state in {folder}")
    if len(found) > 1:
        ports = ", ".join(str(server.port) for server in found)
        _complain(f"several servers have their state in {folder}: choose one with --port, of {ports}")
    return found[0]


def _send(server: Server, number: signal.Signals) -> None:
    """Send the signal to drain to every front, or the signal to stop to the supervisor."""
    processes: tuple[Process, ...] = (server.supervisor,)
    if number == signal.SIGUSR1:
        processes = server.fronts
    elif not server.supervisor.alive():  # then the fronts end by themselves, and the signal makes them end sooner
        _say(_named_dead(server.supervisor))
        processes = server.fronts
    for process in processes:
        try:
            process.signal(number)
        except ProcessLookupError:
            if process.replaced():
                _say(f"process {process.pid} is another program's by now, and was sent nothing")
        except PermissionError:
            _complain(f"{_named(server)} belongs to another user: no signal can be sent to it")


def _draining(folder: Path, server: Server) -> bool:
    """Return whether every front of the server is draining, including fronts that started meanwhile."""
    return any(
        now.port == server.port and now.supervisor == server.supervisor and now.draining for now in present(folder)
    )


def _until(true: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``true`` returns true; return whether that happened within ``seconds``."""
    end = time.monotonic() + seconds
    while not (there := true()) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return there


def _named(server: Server) -> str:
    return f"the server on port {server.port} (process {server.supervisor.pid})"


def _named_dead(process: Process) -> str:
    now = ", and its number is another program's by now" if process.replaced() else ""
    return f"the supervisor (process {process.pid}) has died{now}: the signal to stop goes to the front processes"


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def _complain(sentence: str, status: int = 1) -> NoReturn:
    sys.stderr.write(f"{sentence}\n")
    raise typer.Exit(status)
