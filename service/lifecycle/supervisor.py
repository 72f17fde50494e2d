"""The supervisor (circus, by default under BentoML): which processes it starts, and how they notice its death.

The supervisor starts a process again if it dies, and kills a process that hangs (:mod:`service.lifecycle.heartbeat`).
"""

import atexit
import contextlib
import functools
import os
import shlex
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bentoml.exceptions import BentoMLConfigException

from service import memory
from service.closing import optional
from service.lifecycle.exposure import keep_to_this_machine
from service.lifecycle.fronts import available_cores, number_of_fronts
from service.lifecycle.heartbeat import Heartbeats
from service.lifecycle.listening_socket import share_port
from service.lifecycle.run_folder import make_run_folder, remove_run_folder
from service.messages.board import Board
from service.messages.paths import BOARD, RUN_FOLDER, SERVED_PORT, run_folder
from service.telemetry.logs import log_as_json

__all__ = [
    "arranged",
    "check_in_turn",
    "hear_signals",
    "restrain",
    "server_ends",
    "supervisor",
    "tell_to_stop",
    "watch",
]

SUPERVISOR = "GUARDHOUSE_SUPERVISOR"
"""The variable with the supervisor's process id. After the supervisor has died, `getppid` cannot give the id."""
LOOK_SECONDS, RETRY_SECONDS = 0.25, 0.05
FAILED, FAILURE = "failed", 1
"""The file by which a process says that the server cannot start, and the exit status of the server then."""
CHECK_SECONDS = 0.5
"""How often circus looks for processes that have died, in seconds, to start them again."""
ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def restrain() -> None:
    """Change every supervisor that BentoML makes in this process from now on, as :func:`arranged` describes."""
    from bentoml._internal.utils.circus import Arbiter  # noqa: PLC0415 - the fronts do not need it

    make = Arbiter.__init__

    def restrained(arbiter: Any, watchers: Sequence[Any], **options: Any) -> None:  # noqa: ANN401 - circus has no types
        (front,) = watchers
        try:
            all_watchers, ours = arranged(front, options)
        except OSError as refused:
            raise BentoMLConfigException(f"the server cannot be started: {refused}") from refused
        make(arbiter, all_watchers, **{**options, **ours})
        check_in_turn(arbiter)
        hear_signals(arbiter)

    Arbiter.__init__ = restrained  # type: ignore[method-assign, assignment]


def arranged(front: Any, options: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:  # noqa: ANN401 - circus has no types
    """Turn circus's description of one front into descriptions of all fronts and the engine, and circus's options.

    By default circus listens on two TCP ports of 127.0.0.1 and runs any command that any local user sends there. Only
    the plugin of ``--reload`` needs those ports. So they are replaced by names inside the process or, if there is a
    plugin, by Unix sockets in a folder that only the owner can enter.

    Raises:
        OSError: the port is taken, or the run folder cannot be made.
    """
    fronts, ours = number_of_fronts(), {SUPERVISOR: str(os.getpid())}
    for listening in options.get("sockets") or ():
        ours[SERVED_PORT] = str(listening.port)
        keep_to_this_machine(listening)
        share_port(listening, fronts)
        # Each front begins to listen when it can answer. Until then connections are refused, and do not wait.
        listening.listen = lambda *_: None
    folder = make_run_folder(fronts)
    atexit.register(_leave, folder)  # at exit: circus's own clean-up runs before the processes have ended
    front.numprocesses = fronts
    # In a container that BentoML builds, BentoML does not start a process again. This server needs its fronts.
    front.respawn = True
    # A front ends its own child processes, after the requests that need them are answered.
    front.stop_children = False
    front.env = {**(front.env or {}), **ours, RUN_FOLDER: str(folder)}
    log_as_json()
    Heartbeats(Board(folder / BOARD)).watch()
    name = uuid.uuid4().hex
    control, events = f"inproc://{name}-control", f"inproc://{name}-events"
    if options.get("plugins"):
        control, events = f"ipc://{folder}/circus-control", f"ipc://{folder}/circus-events"
    more = {"endpoint": control, "pubsub_endpoint": events, "check_delay": CHECK_SECONDS}
    return [front, engine_watcher(front)], more


def check_in_turn(arbiter: Any) -> None:  # noqa: ANN401 - circus has no types
    """Let a check for dead processes be left out while circus still starts processes. Circus itself logs an error."""
    from circus.exc import ConflictError  # type: ignore[import-untyped]  # noqa: PLC0415 - the fronts do not need it

    check = arbiter.manage_watchers

    def in_turn() -> Any:  # noqa: ANN401 - circus has no types
        with contextlib.suppress(ConflictError):
            return check()

    arbiter.manage_watchers = in_turn


def hear_signals(arbiter: Any) -> None:  # noqa: ANN401 - circus has no types
    """Make every signal that ends a program stop the supervisor gracefully."""
    signals = arbiter.ctrl.sys_hdl
    signals.quit = lambda: arbiter.ctrl.loop.asyncio_loop.call_soon_threadsafe(_stop, arbiter)
    # If the terminal is closed (SIGHUP), the server ends. Circus itself would start a second front on the same socket.
    signals.handle_hup = signals.quit


def engine_watcher(front: Any) -> Any:  # noqa: ANN401 - circus has no types
    """Describe the engine's process to circus. The process imports the same source folder as this module."""
    from circus.watcher import Watcher  # type: ignore[import-untyped]  # noqa: PLC0415 - the fronts do not need it

    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # If a torch thread shares a core with a front, all torch threads wait: a small batch then takes 65 ms, not 1 ms.
    threads = max(1, available_cores() - front.numprocesses)
    return Watcher(
        name="engine",
        cmd=shlex.quote(sys.executable),
        numprocesses=2,  # the engine and its spare
        # -P keeps the working directory off the import path, so that a folder `service` there cannot shadow ours.
        args=["-P", "-m", "service.lifecycle.engine_process"],
        working_dir=front.working_dir,
        copy_env=True,
        env={
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            **memory.huge_pages(),
            **front.env,
            "PYTHONPATH": path,
        },
        graceful_timeout=front.graceful_timeout,
        stop_children=False,
        respawn=True,
    )


def _stop(arbiter: Any) -> None:  # noqa: ANN401 - circus has no types
    """Stop the supervisor. If circus is busy starting or checking processes, it refuses, so try again."""
    from circus.arbiter import Arbiter  # type: ignore[import-untyped]  # noqa: PLC0415 - the fronts do not need it
    from circus.exc import ConflictError  # noqa: PLC0415

    if arbiter._stopping:  # noqa: SLF001 - circus has no public name for it
        return
    if hasattr(arbiter, "exit_stack"):
        with optional("BentoML could not clear up"):
            arbiter.exit_stack.close()
    try:
        stopped = Arbiter.stop(arbiter)
    except ConflictError:
        arbiter.loop.call_later(RETRY_SECONDS, _stop, arbiter)
        return
    # If stopping fails, the supervisor leaves all the same, and the other processes notice that it has gone.
    stopped.add_done_callback(lambda done: arbiter.loop.stop() if done.exception() else None)


def _leave(folder: Path) -> None:
    """Remove the run folder. If a process has said that the server failed, end with a status that says so."""
    failed = (folder / FAILED).exists()
    remove_run_folder(folder)
    if failed:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FAILURE)


# The functions below are for the processes that the supervisor starts.


def supervisor() -> int | None:
    """Return the id of the process that supervises this process, alive or dead; None if there is no supervisor."""
    told = os.environ.get(SUPERVISOR, "")
    return int(told) if told.isdecimal() else None


def tell_to_stop(*, failed: bool = False) -> None:
    """Ask the supervisor, if it is alive, to stop the server. Otherwise it would start a process that leaves again.

    If the server ``failed``, the supervisor's exit status says so.
    """
    if (pid := supervisor()) is not None and os.getppid() == pid:
        if failed and (folder := run_folder()) is not None:
            with contextlib.suppress(OSError):
                (folder / FAILED).touch()
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def server_ends() -> bool:
    """Return whether the supervisor has died, or a process has told the supervisor that the server failed."""
    pid, folder = supervisor(), run_folder()
    return (pid is not None and os.getppid() != pid) or (folder is not None and (folder / FAILED).exists())


def watch(gone: Callable[[], object]) -> None:
    """Call ``gone`` in a thread when the supervisor has died."""
    if (pid := supervisor()) is not None:
        threading.Thread(target=_watch, args=(pid, gone), name="supervisor", daemon=True).start()


def _watch(pid: int, gone: Callable[[], object]) -> None:
    while os.getppid() == pid:
        time.sleep(LOOK_SECONDS)
    gone()
