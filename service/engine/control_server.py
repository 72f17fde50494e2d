"""The control socket's server: answers every question of the fronts that is not a prediction, on the event loop."""

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from service.messages.frames import Frame, pack, read_async
from service.messages.refused import STARTING, Refused

__all__ = ["ControlServer", "Handler"]

LOG = logging.getLogger("guardhouse")
CLOSE_SECONDS = 1.0
FRAMES = 4
"""How many frames of a fault are logged; its message is not."""
Handler = Callable[[dict[str, Any], bytes], Awaitable[tuple[Mapping[str, Any], bytes]]]
"""Answers one question: takes the head and the body of the question, and returns the head and body of the answer."""


class ControlServer:
    """Sends every front the served model and the engine's state, and answers many questions at the same time."""

    def __init__(self, served: Mapping[str, Any], handlers: Mapping[str, Handler]) -> None:
        """Prepare the server. ``served`` is the first message to every front."""
        self._served, self._handlers = dict(served), dict(handlers)
        self._state: dict[str, Any] = {"state": "loading", "trouble": STARTING}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._left = asyncio.Event()
        self._left.set()

    async def start(self, path: Path) -> None:
        """Listen on a Unix socket. If an engine that ended left a socket at the path, replace that socket.

        Raises:
            OSError: the socket cannot be made.
        """
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - the folder is in memory, so this call does not block
        self._server = await asyncio.start_unix_server(self._serve, str(path))

    def add(self, handlers: Mapping[str, Handler]) -> None:
        """Answer more questions from now on."""
        self._handlers |= handlers

    def say(self, state: str, trouble: str | None = None) -> None:
        """Send every front the engine's state (``loading``, ``ready`` or ``failed``) and why it cannot predict."""
        self._state = {"state": state, "trouble": trouble}
        for writer in self._writers:
            writer.write(pack(self._state))

    async def fronts_left(self) -> None:
        """Wait until no front is connected."""
        await self._left.wait()

    async def close(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        for task in tuple(self._tasks):
            task.cancel()
        with contextlib.suppress(TimeoutError):  # their tasks end by themselves
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._left.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running: dict[int, asyncio.Task[None]] = {}
        self._writers.add(writer)
        self._left.clear()
        writer.write(pack({"served": self._served}))
        writer.write(pack(self._state))
        try:
            while True:
                head, body = await read_async(reader)
                number = head["number"]
                if head["ask"] == "cancel":
                    if (task := running.get(number)) is not None:
                        task.cancel()
                    continue
                task = asyncio.create_task(self._answer(writer, number, head, body))
                running[number] = task
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                task.add_done_callback(partial(_forget, running, number))
        except (asyncio.IncompleteReadError, OSError):  # the front has left
            pass
        finally:
            for task in tuple(running.values()):
                task.cancel()
            self._writers.discard(writer)
            writer.close()
            if not self._writers:
                self._left.set()

    async def _answer(self, writer: asyncio.StreamWriter, number: int, head: dict[str, Any], body: bytes) -> None:
        answer, data = await self._reply(head, body)
        if not writer.is_closing():
            with contextlib.suppress(OSError):
                writer.write(pack({**answer, "number": number}, data))
                await writer.drain()

    async def _reply(self, head: dict[str, Any], body: bytes) -> Frame:
        asked = head.pop("ask")
        if asked == "ping":
            return {}, b""
        handler = self._handlers.get(asked)
        try:
            if handler is None:
                raise Refused("loading", str(self._state["trouble"] or STARTING), retry_after=2)  # noqa: TRY301 - like what a handler raises
            answer, data = await handler(head, body)
        except Refused as refused:
            said = {"reason": refused.reason, "detail": refused.detail, "retry_after": refused.retry_after}
            return {"refused": said}, b""
        except Exception as fault:  # noqa: BLE001 - the front answers 500, and this log says where it was
            frames = "".join(traceback.format_tb(fault.__traceback__)[-FRAMES:])
            LOG.error("%s while answering %r\n%s", type(fault).__name__, asked, frames)  # noqa: TRY400 - its message may quote a row
            return {"fault": type(fault).__name__}, b""
        return dict(answer), data


def _forget(running: dict[int, asyncio.Task[None]], number: int, _: asyncio.Task[None]) -> None:
    running.pop(number, None)
