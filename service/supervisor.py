"""BentoML's supervisor: what it is kept from doing, and what the worker that it started knows of it."""

import contextlib
import functools
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from bentoml.exceptions import BentoMLConfigException

from service.closing import optional

__all__ = ["restrain", "supervisor", "tell_to_stop", "watch"]

SUPERVISOR = "GUARDHOUSE_SUPERVISOR"
"""The variable that tells a worker which process supervises it; after that process has died, `getppid` cannot."""
LOOK_SECONDS, RETRY_SECONDS = 0.25, 0.05
LONGEST_PATH = 90
"""Bytes of a folder's path that leave room for a name within the 108 that the path of a Unix socket may have."""


@functools.cache
def restrain() -> None:
    """Change every supervisor that this process makes from now on.

    BentoML builds its supervisor on circus, which by default listens on two TCP ports of 127.0.0.1 and runs any command
    that arrives there, from any user. Nothing needs those ports but the plugin of ``--reload``, so they become names
    inside of the process, or, with a plugin, Unix sockets in a folder that only the owner can enter.
    """
    from bentoml._internal.utils.circus import Arbiter  # noqa: PLC0415 - the worker needs nothing of it

    make = Arbiter.__init__

    def restrained(arbiter: Any, watchers: Sequence[Any], **options: Any) -> None:  # noqa: ANN401 - circus has no types
        name = uuid.uuid4().hex
        control, events = f"inproc://{name}-control", f"inproc://{name}-events"
        folder = _private_folder() if options.get("plugins") else None
        if folder is not None:
            control, events = f"ipc://{folder}/control", f"ipc://{folder}/events"
        for watcher in watchers:
            watcher.env = {**(watcher.env or {}), SUPERVISOR: str(os.getpid())}
            # The worker ends its own processes, after the requests that need them have their answers.
            watcher.stop_children = False
        for listening in options.get("sockets") or ():
            # The worker listens, once it can answer. Until then a connection is refused; it would wait for seconds.
            listening.listen = lambda *_: None
        make(arbiter, watchers, **{**options, "endpoint": control, "pubsub_endpoint": events})
        signals = arbiter.ctrl.sys_hdl
        signals.quit = lambda: arbiter.ctrl.loop.asyncio_loop.call_soon_threadsafe(_stop, arbiter)
        # A terminal that is closed ends the server. Circus would start a second worker on the socket of the first.
        signals.handle_hup = signals.quit
        if folder is not None:
            arbiter.exit_stack.callback(shutil.rmtree, folder, ignore_errors=True)

    Arbiter.__init__ = restrained  # type: ignore[method-assign, assignment]


def _stop(arbiter: Any) -> None:  # noqa: ANN401 - circus has no types
    """Stop the supervisor in any case: circus forgets a signal that comes while it starts or looks after its worker."""
    from circus.arbiter import Arbiter  # type: ignore[import-untyped]  # noqa: PLC0415 - not for the worker
    from circus.exc import ConflictError  # type: ignore[import-untyped]  # noqa: PLC0415

    if arbiter._stopping:  # noqa: SLF001 - circus tells it in no other way
        return
    with optional("BentoML could not clear up"):
        arbiter.exit_stack.close()
    try:
        stopped = Arbiter.stop(arbiter)
    except ConflictError:
        arbiter.loop.call_later(RETRY_SECONDS, _stop, arbiter)
        return
    # If that fails, the worker notices that its supervisor has gone.
    stopped.add_done_callback(lambda done: arbiter.loop.stop() if done.exception() else None)


def _private_folder() -> str:
    folder = tempfile.mkdtemp(prefix="guardhouse-")
    if len(os.fsencode(folder)) > LONGEST_PATH:
        shutil.rmtree(folder)
        raise BentoMLConfigException(
            f"--reload needs Unix sockets in {folder}, whose path is too long for them; name a shorter TMPDIR"
        )
    return folder


# In the worker


def supervisor() -> int | None:
    """Return the process that supervises this worker, alive or dead; None if this process is no worker."""
    told = os.environ.get(SUPERVISOR, "")
    return int(told) if told.isdecimal() else None


def tell_to_stop() -> None:
    """Ask the supervisor, if it is there, to stop the server: it would start a worker that has left again."""
    if (pid := supervisor()) is not None and os.getppid() == pid:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def watch(gone: Callable[[], object]) -> None:
    """Call ``gone``, in a thread, when the supervisor has died without stopping this worker."""
    if (pid := supervisor()) is not None:
        threading.Thread(target=_watch, args=(pid, gone), name="supervisor", daemon=True).start()


def _watch(pid: int, gone: Callable[[], object]) -> None:
    while os.getppid() == pid:
        time.sleep(LOOK_SECONDS)
    gone()
