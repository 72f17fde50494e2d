"""How a front ends: it reports not ready, closes the port, finishes the requests in flight, and then exits.

The process exits in any case, even if a request or a part hangs.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial

from service.closing import Step, close_all, optional
from service.lifecycle import supervisor
from service.lifecycle.listening_socket import inherited, withdraw

__all__ = ["Shutdown"]

LOG = logging.getLogger("guardhouse")
DRAIN_SECONDS = 1.0
"""How long the server reports not ready before it refuses connections: load balancers need this time to notice."""
LAST_SECONDS = 0.6
"""How long the connections that were accepted last have to send their request."""
MARGIN_SECONDS = 5.0
"""How long after its deadline a request may take until its answer is written."""
CLOSE_SECONDS = 40.0
"""How long closing everything may take after that. The limits of the single steps add up to less."""
LEFT_BEHIND = 1
"""The exit status of a process that exits before everything was finished."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Shutdown:
    """Ends a front after a signal, or after its supervisor has died. A second signal changes nothing.

    The exit is scheduled before the steps that make the end graceful, so it happens even if a step fails. Every wait
    has a limit.
    """

    def __init__(
        self,
        *,
        request_seconds: float,
        announce: Callable[[], None],
        close_idle: Callable[[], None],
        finish: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Prepare, without scheduling anything.

        Args:
            request_seconds: how long a request may take at most.
            announce: called when draining begins.
            close_idle: closes connections without a request; called when load balancers have had time to notice.
            finish: ends the other transports; called when no connection is accepted any more.
            close: closes everything; called once, when no request is in flight any more or the time for that is over.
        """
        self.draining = False
        self._request_seconds = request_seconds
        self._announce, self._close_idle, self._finish, self._close = announce, close_idle, finish, close
        self._stopping = self._closing = False
        self._drained_at = 0.0
        self._leave: object = None
        self._running: list[asyncio.Future[None]] = []

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Replace uvicorn's signal handlers, which would stop the server at once, and watch the supervisor."""
        supervisor.watch(partial(loop.call_soon_threadsafe, self._orphaned))
        if threading.current_thread() is not threading.main_thread():
            return
        self._leave = signal.getsignal(signal.SIGTERM)
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup makes a process ignore SIGHUP, and that stays so
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(self.drain))

    def drain(self) -> None:
        """Report not ready, and go on answering requests."""
        if self.draining:
            return
        self.draining = True
        loop = asyncio.get_running_loop()
        self._drained_at = loop.time()
        loop.call_later(DRAIN_SECONDS, self._close_idle)
        LOG.info("draining: readiness is withdrawn, connections are closed after their answer")
        with optional("`guardhouse drain` does not see that this server drains"):
            self._announce()

    def stop(self) -> None:
        """Drain if that has not begun, wait until load balancers have had time to notice, and end."""
        if self._stopping:
            return
        self._stopping = True
        self.drain()
        loop = asyncio.get_running_loop()
        loop.call_at(self._drained_at + DRAIN_SECONDS, self._refuse)
        most = DRAIN_SECONDS + LAST_SECONDS + self._request_seconds + MARGIN_SECONDS
        loop.call_later(most, self._give_up)
        with optional("if the event loop hangs, nothing ends this process"):
            threading.Thread(target=_exit_after, args=(most + CLOSE_SECONDS,), name="exit", daemon=True).start()
        supervisor.tell_to_stop()

    def _orphaned(self) -> None:
        if not self._stopping:
            LOG.error("the supervisor (process %s) is gone: the server stops", supervisor.supervisor())
        self.stop()

    def _refuse(self) -> None:
        """Refuse new connections, and let uvicorn and gRPC finish the requests in flight."""
        asyncio.get_running_loop().call_later(LAST_SECONDS, self._end)
        with optional("connections hang until the process has left"):
            if (listening := inherited()) is not None:  # closing our copy is not enough: the supervisor has another
                self._run(close_all(Step("the port", MARGIN_SECONDS, partial(withdraw, listening))))
        self._run(close_all(Step("gRPC", self._request_seconds + MARGIN_SECONDS, self._finish)))

    def _run(self, work: Awaitable[None]) -> None:
        self._running.append(asyncio.ensure_future(work))  # the event loop itself keeps only a weak reference

    def _end(self) -> None:
        """Call uvicorn's own handler: uvicorn waits for the requests in flight and then closes everything."""
        if callable(self._leave):
            self._leave(signal.SIGTERM, None)

    async def close(self) -> None:
        """Close everything, unless closing has already begun."""
        if not self._closing:
            self._closing = True
            await self._close()

    def _give_up(self) -> None:
        if not self._closing:
            LOG.error("connections are still open after their requests' deadlines: the server exits all the same")
            self._run(self._close_and_exit())

    async def _close_and_exit(self) -> None:
        await self.close()
        os._exit(LEFT_BEHIND)


def _exit_after(seconds: float) -> None:
    time.sleep(seconds)
    LOG.critical("the server did not end in %g s: the process is ended", seconds)
    os._exit(LEFT_BEHIND)
