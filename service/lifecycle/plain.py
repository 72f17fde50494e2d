"""A server without BentoML: circus supervises the same fronts and the same engine.

``guardhouse serve --plain`` replaces itself by ``python -m service.lifecycle.plain HOST PORT``.
"""

import socket
import sys
from pathlib import Path

from guards.errors import Mistake
from service.lifecycle.supervisor import arranged, check_in_turn, hear_signals

__all__ = ["serve"]

SOCKET = "guardhouse"
BACKLOG = 2048
PATIENT_SECONDS = 86_400
"""How long circus waits for a process to stop. Every process has a shorter limit of its own."""


def serve(host: str, port: int) -> None:
    """Supervise fronts and an engine until a signal ends the server.

    Raises:
        Mistake: the port is taken, or the run folder cannot be made.
    """
    from circus.arbiter import Arbiter  # type: ignore[import-untyped]  # noqa: PLC0415 - only this function needs it
    from circus.sockets import CircusSocket  # type: ignore[import-untyped]  # noqa: PLC0415
    from circus.watcher import Watcher  # type: ignore[import-untyped]  # noqa: PLC0415

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = CircusSocket(name=SOCKET, host=host, port=port, family=family, backlog=BACKLOG)
    front = Watcher(
        name="front",
        cmd=sys.executable,
        args=["-P", "-m", "service.lifecycle.plain_front", "--fd", f"$(circus.sockets.{SOCKET})"],
        working_dir=str(Path.cwd()),
        copy_env=True,
        use_sockets=True,
        graceful_timeout=PATIENT_SECONDS,
    )
    options = {"sockets": [listening]}
    try:
        watchers, ours = arranged(front, options)
    except OSError as refused:
        raise Mistake(f"the server cannot be started: {refused}") from refused
    arbiter = Arbiter(watchers, **{**options, **ours})
    check_in_turn(arbiter)
    hear_signals(arbiter)
    try:
        arbiter.start()
    except OSError as refused:
        raise Mistake(f"port {port} of {host}: cannot listen there ({refused.strerror})") from refused


def main() -> None:
    """Serve until a signal ends the server."""
    host, port = sys.argv[1:]
    try:
        serve(host, int(port))
    except Mistake as mistake:
        sys.exit(str(mistake))


if __name__ == "__main__":
    main()
