"""The HTTP/1.1 protocol of a connection: uvicorn's, with strict reading, and cancellation if the client leaves."""

import asyncio
from functools import partial
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.front.answer_writer import UnreadBody
from service.front.arrival import seconds_since_arrival
from service.front.bounded_connection import FRESH_SECONDS, BoundedConnection, unread
from service.front.direct import METHOD, Direct, DirectCycle
from service.front.disconnect import ClosedOrHalfClosed
from service.front.dispatch import CONNECTION, WAITED
from service.front.framing import Body, SizedBody
from service.front.http import Head, Message, Receive, Send
from service.front.one_write import OneWrite

__all__ = ["KEEP_ALIVE_SECONDS", "StrictProtocol", "use_strict_protocol"]

KEEP_ALIVE_SECONDS = "keep_alive_seconds"
DIRECT = "direct"
"""Keys of the lifespan state. The application may set the keep-alive time, and what answers requests of the direct
way."""


class StrictProtocol(BoundedConnection):
    """The protocol of one connection: reads requests strictly, answers them in order, and ends the connection.

    If a client leaves, the task that answers the client is cancelled, as in gRPC's server.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        # uvicorn believes X-Forwarded-For of every local process. This server decides itself whom it believes.
        self._application: Any = self.app.app if isinstance(self.app, ProxyHeadersMiddleware) else self.app
        self.app = self._serve
        self.timeout_keep_alive = self.app_state.get(KEEP_ALIVE_SECONDS, self.timeout_keep_alive)
        # uvicorn's own access log, its limit and a path before all paths concern requests of the general way alone.
        general = self.access_log or self.root_path or self.limit_concurrency is not None
        self._direct: Direct | None = None if general else self.app_state.get(DIRECT)
        self._task: asyncio.Task[Any] | None = None
        self._half_closed = False
        """Whether the client has closed its sending side, and may still wait for answers."""
        self._watch: ClosedOrHalfClosed | None = None
        self._made_at = 0.0
        self._idle_since: float | None = None
        """When the last answer was complete, by the event loop's clock; None while a request is read or answered."""

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note when the connection was made."""
        super().connection_made(transport)
        self._made_at = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers, and cancel the request that is being answered, since nobody waits for its answer."""
        self._stop_timer()
        self._stop_watching()
        if self._answering:
            assert self._running is not None  # noqa: S101 - the request that is being answered
            self._running.disconnected = True
            self._running.message_event.set()
            self.loop.call_soon(self._cancel)  # later: a task cancelled before it begins would not be counted
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves this timer running after a reset

    def data_received(self, data: bytes) -> None:
        """Read the requests that have arrived."""
        if self._lingers:
            self._drop(len(data))
            return
        self._idle_since = None
        self._read(self._unparsed + data if self._unparsed else data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer the requests that arrived whole, if the client still waits for the answers; otherwise close."""
        self._stopped_reading = True
        self._stop_timer()
        if self._body is not None and self.pipeline:
            self.pipeline.popleft()  # the last request, whose body will never be complete
            self._body = None
        if self._body is not None or not self._answering or self.scheme == "https":  # TLS is never half-closed
            return False
        if not self._half_closed:
            self._half_closed = True
            last = self.pipeline[0][0] if self.pipeline else self._running
            assert last is not None  # noqa: S101 - a request is being answered
            last.keep_alive = self._final_answer is not None
            self._watch_client()
        return True

    def shutdown(self) -> None:
        """Close an idle connection at once. If a request has arrived and has not been read, close after its answer.

        Otherwise the connection would be reset, and the client would not know whether the request was processed.
        """
        self._prepare_end()
        if self._lingers:
            self.transport.close()
            return
        fresh = self._made_at + FRESH_SECONDS - self.loop.time()
        if self._in_head or unread(self.transport):
            if self._timer is None:
                self._start_timer()
        elif self._running is None and fresh > 0:  # the request of a new connection is probably on its way
            self.loop.call_later(fresh, self._shutdown_later)
        else:
            super().shutdown()

    def _shutdown_later(self) -> None:
        if not self.transport.is_closing():
            self.shutdown()

    def resume_writing(self) -> None:
        """Begin the next request, which has waited until the client had read the answer before."""
        super().resume_writing()
        if self._is_running or self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._idle_since is not None:
            self._wait()

    # What is answered

    def _begin(self, body: Body | None) -> None:
        """Begin a request: the direct way if it can be, otherwise the general way.

        Raises:
            Problem: 503, too many connections are open, and this request asks for no probe.
        """
        self._check_place()
        whole = isinstance(body, SizedBody) and body.size <= self._behind and self.parser.get_http_version() == "1.1"
        if whole and self._direct is not None and not (self._answering or self.pipeline or self.expect_100_continue):
            route = self._direct.route(self.parser.get_method(), self.url)
            if route is not None:
                client = self.client[0] if self.client else ""
                head = Head(METHOD, self.url.decode(), self.headers, client=client, connection=self)
                self.cycle = DirectCycle(route, head, self)
                return
        if body is not None and self._direct is not None and self._direct.limits.sees_waiting():
            self.scope[WAITED] = seconds_since_arrival(self._descriptor)  # type: ignore[literal-required]
        self.scope[CONNECTION] = self  # type: ignore[literal-required]
        super()._begin(body)
        if body is not None and not whole:
            self.cycle.transport = UnreadBody(self.transport, self._end_after_body)
        self.cycle.keep_alive = self.cycle.keep_alive and not self._for_probes

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body, or the whole body of a direct request."""
        if isinstance(self.cycle, DirectCycle):
            self.cycle.content = body
        else:
            super().on_body(body)

    def _finish(self) -> None:
        super()._finish()
        if isinstance(self.cycle, DirectCycle):
            self._running = self.cycle
            assert self._direct is not None  # noqa: S101 - it made the cycle
            self._direct.turns.add(partial(self._take_turn, self.cycle))

    def _take_turn(self, cycle: DirectCycle) -> None:
        """Answer a direct request, or refuse it."""
        assert self._direct is not None  # noqa: S101 - it made the cycle
        if cycle.disconnected:
            self._direct.limits.left(cycle.route, cycle.head)
        elif not self._direct.turn_away(cycle):
            if self._direct.turns.delay:
                cycle.head.waited = seconds_since_arrival(self._descriptor)
            self._start_asgi_task(cycle, self.app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - an ASGI application
        self._running = cycle
        super()._start_asgi_task(cycle, app)
        if self._half_closed:
            self._watch_client()

    async def _serve(self, scope: Any, receive: Receive, _: Send) -> None:  # noqa: ANN401 - uvicorn's scope
        """Run the application. If the request's body is refused, the application's ``receive`` raises the problem."""
        cycle, self._task = self._running, asyncio.current_task()
        assert cycle is not None  # noqa: S101 - this task was started for it
        try:
            if isinstance(cycle, DirectCycle):
                assert self._direct is not None  # noqa: S101 - it made the cycle
                await self._direct.limits.answer(cycle.route, cycle.head, cycle.content, cycle.write)
                return

            async def receive_or_raise() -> Message:
                message = await receive()
                if self._body_problem is not None and cycle is self.cycle:
                    raise self._body_problem
                return message

            await self._application(scope, receive_or_raise, OneWrite(cycle))
        except asyncio.CancelledError:
            if not cycle.disconnected:  # the server stops; the client has not left
                raise

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def on_response_complete(self) -> None:
        """Start the next request. If the client sends no more and every request is answered, close the connection."""
        self._stop_watching()
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                if not self.flow.write_paused:
                    self._start_asgi_task(*self.pipeline.pop())
            else:
                self._idle_since = self.loop.time()
                self._wait()
                if self.timeout_keep_alive_task is None:
                    self._wait_for_idleness(self.timeout_keep_alive)
        if self._unparsed:
            self._read(self._unparsed)
        if self._answering or self.transport.is_closing():
            return
        if self._final_answer is not None:
            self._send_final_answer()
        elif self._half_closed:
            self.transport.close()

    def _wait_for_idleness(self, seconds: float) -> None:
        """Set the timer that closes an idle connection: one timer, however many requests arrive meanwhile."""
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:  # busy: the timer is set again after the answer
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._wait_for_idleness(left)
        else:
            self.timeout_keep_alive_handler()

    def _watch_client(self) -> None:
        if self._running is not None:
            self._watch = ClosedOrHalfClosed(self.transport, self._running, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None


def use_strict_protocol() -> None:
    """Make uvicorn use this protocol. BentoML starts uvicorn itself, and has no setting for the protocol."""
    auto.AutoHTTPProtocol = StrictProtocol
