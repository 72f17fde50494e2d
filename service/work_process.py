"""What :class:`service.worker.Worker` starts: does the work that comes over a connection, and imports what it names.

Nothing else is imported here, so that the process is as large as its work and no larger.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

__all__: list[str] = []

NICENESS = 19


def main(descriptor: int, server: int) -> None:
    """Work until the other end of the connection is closed, or the server's process is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to all processes of a service at once: the server ends us
    with contextlib.suppress(OSError):  # a container may forbid it
        os.nice(NICENESS)
    logging.disable()
    threading.Thread(target=_leave_with, args=(server,), daemon=True).start()
    connection: Connection[object, object] = Connection(descriptor)
    while True:
        try:
            asked: Any = connection.recv()
        except EOFError:
            return
        try:
            answer = _run(*asked)
        except Exception as failure:  # noqa: BLE001 - said to the log of the server, by its kind: it may hold data
            answer = type(failure).__name__
        try:
            connection.send(answer)
        except OSError:  # nobody is there to hear it
            return


def _run(function: str, *arguments: Any) -> object:  # noqa: ANN401 - what is sent
    """Do as ``guards.monitor.Work.run`` does, without importing torch for it."""
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)(*arguments)


def _leave_with(server: int) -> None:
    """End with the server, even in the middle of a window."""
    while os.getppid() == server:
        time.sleep(1.0)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
