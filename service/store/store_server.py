"""The store's process: does the engine's work with the database, under an interpreter lock of its own.

The engine starts this process as ``python -m service.store.store_server PATH``, writes what to open to the process's
standard input, and connects to the Unix socket at PATH. The process ends when the engine closes the standard input.
"""

import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from guards.errors import Mistake
from guards.monitors.answered_rows import Records
from service.closing import optional
from service.messages import frames
from service.messages.board import Board
from service.messages.paths import BOARD, run_folder
from service.messages.seat import Seat
from service.monitoring.sums import Tallies
from service.store.database import StoreDownError
from service.store.local_store import LocalStore, StoreSettings
from service.store.store_client import StoreClient
from service.store.store_wire import COUNT, DONE, DOWN, FAULT, receive, send
from service.telemetry.logs import configure
from service.telemetry.metrics.process_figures import PUBLISH_SECONDS, ProcessFigures

__all__ = ["StoreServer", "main"]

LOG = logging.getLogger("guardhouse")
COUNTING = ("write", "join", "change", "sweep")
"""The methods that take a function that counts rows; the engine has the monitors, so the engine counts."""
METHODS = ("prepare", "totals", "upkeep", "enter", "settle", "ask_others", "behind", "strike", "leave")
OF_JOBS = "jobs."
JOBS = [OF_JOBS + name for name in ("add", "get", "take", "hold", "leave", "finish", "free")]
BACKLOG = 64
FRAMES = 4
"""How many frames of an error are logged; its message is not, because the message may quote a row."""
FINISH_SECONDS = 1.5
"""How long transactions may go on after the engine has gone."""


class StoreServer:
    """Answers questions about one store; each connection has a thread of its own."""

    def __init__(self, store: StoreClient, listener: Listener) -> None:
        """Accept connections from now on."""
        self._store, self._listener = store, listener
        self._lock, self._running = threading.Lock(), 0
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def finish(self, seconds: float) -> None:
        """Wait until no question is being answered, but not longer than ``seconds``."""
        end = time.monotonic() + seconds
        while self._running and time.monotonic() < end:
            time.sleep(0.01)

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # the process ends, or a client left before it was accepted
                time.sleep(0.01)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="store", daemon=True).start()

    def _serve(self, connection: "Connection[Any, Any]") -> None:
        with connection:
            while True:
                try:
                    method, arguments = receive(connection)
                    with self._lock:
                        self._running += 1
                    try:
                        send(connection, self._answer(connection, method, arguments))
                    finally:
                        with self._lock:
                            self._running -= 1
                except (EOFError, OSError):  # the engine has gone, or does not wait any more
                    return

    def _answer(self, connection: "Connection[Any, Any]", method: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        def tally(records: Records) -> Tallies:
            send(connection, (COUNT, records))
            counted: Tallies = receive(connection)
            return counted

        try:
            counting = (tally,) if method in COUNTING else ()
            return DONE, self._method(method)(*arguments, *counting)
        except StoreDownError as down:
            return DOWN, str(down)
        except (EOFError, OSError, pickle.UnpicklingError):  # of the connection: the transaction was rolled back
            raise EOFError from None
        except Exception as fault:  # noqa: BLE001 - the engine hears of the error, and this log says where it was
            where = "".join(traceback.format_tb(fault.__traceback__)[-FRAMES:])
            LOG.error("%s in the store's %s\n%s", type(fault).__name__, method, where)  # noqa: TRY400
            return FAULT, type(fault).__name__

    def _method(self, name: str) -> Any:  # noqa: ANN401 - a bound method
        if name in METHODS or name in COUNTING:
            return getattr(self._store, name)
        if name in JOBS:
            return getattr(self._store.jobs, name.removeprefix(OF_JOBS))
        raise LookupError(name)


def main() -> None:
    """Serve the store until the engine closes this process's standard input."""
    (path,) = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the engine says when: rows and outcomes may still come
    opening = frames.read(sys.stdin.buffer)
    if opening is None:
        sys.exit("only a server's engine starts this process: run `guardhouse serve`")
    head, _ = opening
    configure(head["log_level"])
    try:
        store = LocalStore.open(head["url"], StoreSettings.read(head["settings"]))
    except Mistake as mistake:
        _say({"mistake": str(mistake)})
        sys.exit(2)
    Path(path).unlink(missing_ok=True)  # an earlier process of the same engine left it
    server = StoreServer(store, Listener(path, "AF_UNIX", backlog=BACKLOG))
    if (folder := run_folder()) is not None:
        with optional("the server does not know the store's process: no figures, and no end if it hangs"):
            seat = Board(folder / BOARD).take_seat("store")
            threading.Thread(target=_publish, args=(ProcessFigures(seat), seat), name="figures", daemon=True).start()
    _say({"shared": store.jobs.shared})
    sys.stdin.buffer.read(1)
    server.finish(FINISH_SECONDS)
    store.close()
    os._exit(0)  # a normal exit would wait for the threads of connections


def _publish(figures: ProcessFigures, seat: Seat) -> None:
    """Write the figures once a second, and say that this process runs, whatever its transactions wait for."""
    while True:
        time.sleep(PUBLISH_SECONDS)
        figures.publish()
        seat.beat()


def _say(head: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(frames.pack(head))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
