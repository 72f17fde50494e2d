"""The front's connection to the engine for everything but rows: reports, outcomes, metrics, explanations, health."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from service.messages.frames import Frame, pack, read_async
from service.messages.refused import LOST, STARTING, Refused

__all__ = ["ControlChannel", "EngineFaultError"]

LOG = logging.getLogger("guardhouse")
RETRY_SECONDS = 0.1
PING_SECONDS, SILENT_SECONDS = 1.0, 4.0
"""How often the engine is pinged, and after how long a silence the front treats the engine as not answering."""
SILENT = "the process that predicts does not answer"
State = dict[str, Any]


class EngineFaultError(Exception):
    """The engine failed while it answered a question; the engine's log says where."""


class ControlChannel:
    """One connection to the engine, which is opened again whenever it is lost.

    The engine first sends what it serves, then its state, and then its state again at every change.
    """

    def __init__(self, path: str, on_state: Callable[[State], None]) -> None:
        """Connect to a Unix socket in the background; ``on_state`` is called with every state that the engine sends."""
        self._path, self._on_state = path, on_state
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._number = 0
        self._heard = time.monotonic()
        self._due = self._heard + PING_SECONDS
        """When the next ping is due. If this process itself stalls, the ping is late, and the engine was not silent."""
        self._task = asyncio.ensure_future(self._run())
        self._pings = asyncio.ensure_future(self._ping())
        self._closing = False
        self._connected = False
        """Whether there ever was a connection."""

    @property
    def trouble(self) -> str | None:
        """Why the engine cannot be asked a question now; None if the engine can be asked."""
        if self._writer is None:
            return LOST if self._connected else STARTING
        now = time.monotonic()
        late = max(0.0, now - self._due)
        return SILENT if now - self._heard - late > SILENT_SECONDS else None

    async def ask(self, what: str, head: Mapping[str, Any] | None = None, body: bytes = b"") -> Frame:
        """Send a question, and return the head and the body of the answer.

        Raises:
            Refused: the engine refuses, or there is no connection to the engine.
            EngineFaultError: the engine failed while it answered.
        """
        if self._writer is None:
            raise Refused("loading", self.trouble or STARTING, retry_after=2)
        self._number += 1
        number = self._number
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(pack({"ask": what, "number": number, **(head or {})}, body))
            answer, data = await future
        except asyncio.CancelledError:
            if self._writer is not None and number in self._waiting:
                self._writer.write(pack({"ask": "cancel", "number": number}))
            raise
        finally:
            self._waiting.pop(number, None)
        if (refused := answer.get("refused")) is not None:
            raise Refused(refused["reason"], refused["detail"], retry_after=refused["retry_after"])
        if (fault := answer.get("fault")) is not None:
            raise EngineFaultError(fault)
        return answer, data

    async def close(self) -> None:
        """Close the connection for good."""
        self._closing = True
        for task in (self._pings, self._task):
            task.cancel()
        await asyncio.gather(self._pings, self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._path)
            except OSError:  # the engine has not opened its socket yet
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._connected, self._heard = True, time.monotonic()
            try:
                await self._listen(reader)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                self._lose()
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            head, body = await read_async(reader)
            self._heard = time.monotonic()
            number = head.pop("number", None)
            if number is None:
                self._on_state(head)
            elif (future := self._waiting.pop(number, None)) is not None and not future.done():
                future.set_result((head, body))

    def _lose(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            if not self._closing:
                LOG.error("the engine's process is gone: the supervisor restarts it")
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Refused("engine_lost", LOST))
        self._waiting.clear()
        self._on_state({"state": "lost", "trouble": LOST})

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._due - time.monotonic())
            now = time.monotonic()
            self._heard += max(0.0, now - self._due)
            self._due = now + PING_SECONDS
            if self._writer is not None:
                self._number += 1  # nobody waits for the answer: any frame shows that the engine is alive
                self._writer.write(pack({"ask": "ping", "number": self._number}))
