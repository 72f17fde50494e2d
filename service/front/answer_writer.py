"""Writes the answers of one connection: the client must read them in time, and a last answer is not lost."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.front.connections import Connection, Connections

__all__ = ["BODY_BYTES", "CONNECTIONS", "LINGER_BYTES", "AnswerWriter", "UnreadBody"]

CONNECTIONS = "connections"
"""The key of the lifespan state under which the application gives the front's :class:`Connections`."""
LINGER_SECONDS, LINGER_BYTES, BODY_BYTES = 5.0, 1 << 20, 64 << 20
"""How long a client may go on sending after its last answer, and how many bytes: of anything, and of a sound body."""
LAST_READ_SECONDS = 5.0
"""How long a client may take to read an answer while the server ends."""


class AnswerWriter(HttpToolsProtocol, Connection):
    """The writing half of uvicorn's protocol.

    The transport says when it has to keep bytes because the client does not read. From then on the client has a
    deadline, and no further request of the connection is begun.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._connections: Connections = self.app_state[CONNECTIONS]
        self._stopped_reading = False
        """Whether reading has stopped: a request was refused, or the client sends no more."""
        self._server_ends = False
        self._read_deadline: asyncio.TimerHandle | None = None
        self._linger_end: asyncio.TimerHandle | None = None
        self._linger_bytes = 0
        """How many bytes the client may still send."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the transport to say when any byte waits for the client."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._connections.forget(self)
        for timer in (self._read_deadline, self._linger_end):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the deadline: bytes wait because the client does not read."""
        super().pause_writing()
        self._must_read_in(LAST_READ_SECONDS if self._server_ends else self._connections.read_seconds)
        self._connections.unread(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """End the deadline: the client has everything."""
        super().resume_writing()
        self._connections.was_read(self)
        if self._read_deadline is not None:
            self._read_deadline.cancel()

    def _must_read_in(self, seconds: float) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
        self._read_deadline = self.loop.call_later(seconds, self._connections.too_slow, self)

    def _prepare_end(self) -> None:
        """Note that the server ends; a client that has an answer to read has a short time left for that."""
        if not self._server_ends:
            self._server_ends = True
            if self.flow.write_paused:
                self._must_read_in(LAST_READ_SECONDS)

    def give_up(self) -> None:
        """Close the connection at once, with what the client has not read."""
        self.transport.abort()

    def _linger(self, size: int) -> None:
        """Send no more, and drop what the client sends: ``size`` bytes at most, until it closes or its time is over.

        If the server closed a connection whose client still sends, the client's kernel would get a reset, and might
        drop the answer before the client reads it (RFC 9112, section 9.6).
        """
        if self.transport.is_closing() or self._linger_end is not None:
            return
        if self._server_ends or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._stopped_reading = True
        self._linger_bytes = size
        self._connections.waits(self, ends=True)
        self._linger_end = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        self.transport.write_eof()
        self.flow.resume_reading()

    def _drop(self, size: int) -> None:
        """Drop bytes that the client has sent after its last answer."""
        self._linger_bytes -= size
        if self._linger_bytes < 0:
            self.transport.close()

    @property
    def _lingers(self) -> bool:
        return self._linger_end is not None


class UnreadBody(asyncio.Transport):
    """The transport of a request whose body had not arrived when the request began. Only closing is different."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        super().__init__()
        self._transport, self._close = transport, close

    def write(self, data: Any) -> None:  # noqa: ANN401 - any bytes
        """Write a part of the answer."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether the connection is being closed."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End the connection once everything is sent."""
        self._close()
