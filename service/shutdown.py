"""How a server ends: readiness goes first, then the port, then what is in flight, and in any case the process."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial

from service import supervisor
from service.closing import Step, close_all, optional
from service.listening import inherited, withdraw

__all__ = ["Shutdown"]

LOG = logging.getLogger("guardhouse")
DRAIN_SECONDS = 1.0
"""How long readiness says no before connections are refused: the time a load balancer takes to notice."""
LAST_SECONDS = 0.6
"""How long connections that were taken last have to send their request before the end."""
MARGIN_SECONDS = 5.0
"""What a request may take beyond its deadline, to be answered and written."""
CLOSE_SECONDS = 40.0
"""How long everything may take to be closed after that: more than the steps may take together."""
LEFT_BEHIND = 1
"""The exit status of a server that did not wait for everything."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Shutdown:
    """Ends one server: by a signal, or because its supervisor has died. A second signal changes nothing.

    The end itself is scheduled before anything that makes it more polite is tried, and every wait is bounded.
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
        """Schedule nothing yet.

        Args:
            request_seconds: the longest that a request may take.
            announce: called when draining begins.
            close_idle: closes connections without a request; called once load balancers have had the time to notice.
            finish: ends the other transports; called when no connection is taken any more.
            close: closes everything; called once, when nothing is in flight any more, or when it has been too long.
        """
        self.draining = False
        self._request_seconds = request_seconds
        self._announce, self._close_idle, self._finish, self._close = announce, close_idle, finish, close
        self._stopping = self._closing = False
        self._drained_at = 0.0
        self._leave: object = None
        self._running: list[asyncio.Future[None]] = []

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take over uvicorn's signals, which would stop it at once, and watch the supervisor."""
        supervisor.watch(partial(loop.call_soon_threadsafe, self._orphaned))
        if threading.current_thread() is not threading.main_thread():
            return
        self._leave = signal.getsignal(signal.SIGTERM)
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # by nohup
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(self.drain))

    def drain(self) -> None:
        """Withdraw from service, and go on answering."""
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
        """Leave once load balancers have had the time to notice; they may have had it before."""
        if self._stopping:
            return
        self._stopping = True
        self.drain()
        loop = asyncio.get_running_loop()
        loop.call_at(self._drained_at + DRAIN_SECONDS, self._refuse)
        most = DRAIN_SECONDS + LAST_SECONDS + self._request_seconds + MARGIN_SECONDS
        loop.call_later(most, self._give_up)
        with optional("nothing ends this process should its event loop hang"):
            threading.Thread(target=_exit_after, args=(most + CLOSE_SECONDS,), name="exit", daemon=True).start()
        supervisor.tell_to_stop()

    def _orphaned(self) -> None:
        if not self._stopping:
            LOG.error("the supervisor (process %s) is gone: the server stops", supervisor.supervisor())
        self.stop()

    def _refuse(self) -> None:
        """Refuse new connections, and let uvicorn and gRPC finish what is in flight."""
        asyncio.get_running_loop().call_later(LAST_SECONDS, self._end)
        with optional("connections hang until the process has left"):
            if (listening := inherited()) is not None:  # the supervisor holds it too, so closing it is not enough
                self._run(close_all(Step("the port", MARGIN_SECONDS, partial(withdraw, listening))))
        self._run(close_all(Step("gRPC", self._request_seconds + MARGIN_SECONDS, self._finish)))

    def _run(self, work: Awaitable[None]) -> None:
        self._running.append(asyncio.ensure_future(work))  # which the loop itself would forget

    def _end(self) -> None:
        """Let uvicorn wait for what is in flight, and close everything."""
        if callable(self._leave):
            self._leave(signal.SIGTERM, None)

    async def close(self) -> None:
        """Close everything, unless that has begun."""
        if not self._closing:
            self._closing = True
            await self._close()

    def _give_up(self) -> None:
        if not self._closing:
            LOG.error("connections are still open after their requests' deadlines: the server leaves without them")
            self._run(self._close_and_exit())

    async def _close_and_exit(self) -> None:
        await self.close()
        os._exit(LEFT_BEHIND)


def _exit_after(seconds: float) -> None:
    time.sleep(seconds)
    LOG.critical("the server did not end in %g s: the process is ended", seconds)
    os._exit(LEFT_BEHIND)
