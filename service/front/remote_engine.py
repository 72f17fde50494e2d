"""The front's client of the engine process."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy.typing as npt
import orjson

from service.front.control_channel import ControlChannel
from service.front.row_channel import RowChannel
from service.messages.answer import Answer
from service.messages.board import Board
from service.messages.monitor_changes import Change
from service.messages.outcomes import Joined, Outcome
from service.messages.paths import CONTROL_SOCKET, ROW_SOCKET
from service.messages.refused import STARTING, Refused
from service.messages.scope import Scope
from service.messages.seat import Seat
from service.messages.served_model import ServedModel
from service.messages.short_requests import is_short, room
from service.messages.stage import Stage

__all__ = ["RemoteEngine"]

LOG = logging.getLogger("guardhouse")
Array = npt.NDArray[Any]
SPARE_ROWS = 4096
"""Slots in addition to the slots of queued rows: for rows in a batch, and for answers that are not read yet."""
CONNECT_SECONDS = 0.5
OPEN_SECONDS = 5.0
"""How long a front waits for its connection for rows before it listens all the same, and says what is wrong."""
CHANGED = "the bundle or its config was changed while the server ran: restart the server"


class RemoteEngine:
    """Implements :class:`service.front.engine_client.EngineClient` over two sockets and shared memory."""

    def __init__(self, folder: Path, board: Board, seat: Seat) -> None:
        """Connect in the background to the engine whose sockets are in the run ``folder``."""
        self._folder, self._board, self._seat = folder, board, seat
        self._served: asyncio.Future[ServedModel] = asyncio.get_running_loop().create_future()
        self._state: dict[str, Any] = {"state": "starting", "trouble": STARTING}
        self._told = asyncio.Event()
        self._listens = False
        self._rows: RowChannel | None = None
        self._opening: asyncio.Task[None] | None = None
        self.control = ControlChannel(str(folder / CONTROL_SOCKET), self._on_state)

    async def served(self) -> ServedModel:
        """Wait for the engine to connect, and return what the engine serves."""
        return await asyncio.shield(self._served)

    async def settled(self) -> ServedModel:
        """Wait for the engine's state and, if the engine is ready, for the connection for rows; return what it serves.

        A front listens after that. Otherwise the front would refuse predictions that other fronts can answer.
        """
        served = await self.served()
        await self._told.wait()
        if self._opening is not None:
            await asyncio.wait({self._opening}, timeout=OPEN_SECONDS)
        return served

    def listens(self) -> None:
        """Say on the board from now on whether this front can predict; called when the front begins to listen."""
        self._listens = True
        self._seat.connecting = self._rows is None

    def ready(self) -> str | None:
        """Return why the engine cannot predict now; None if the engine is ready."""
        if self._board.changed:
            return CHANGED
        if self._rows is None:
            return str(self._state.get("trouble") or STARTING)
        return self.control.trouble

    def check_room(self, rows: int = 1) -> None:
        """Refuse rows that the queue has no room for.

        Raises:
            Refused: the engine is not ready, or the queue is full.
        """
        self._room(rows)

    def _room(self, rows: int) -> tuple[RowChannel, int]:
        """Check that there is room for rows; return the connection for rows, and how many rows wait."""
        if (trouble := self.ready()) is not None:
            raise Refused("loading", trouble, retry_after=2)
        assert self._rows is not None  # noqa: S101 - it is ready
        queued = self._board.queued_rows
        most = room(self._served.result().server.max_queue_rows, short=is_short(rows, self._board.batch_rows))
        if queued + rows > most or rows > self._rows.free:
            raise Refused("queue_full", "the queue is full", retry_after=self._wait(queued))
        return self._rows, queued

    def _wait(self, rows: int) -> float:
        """Estimate how many seconds ``rows`` rows take, from the duration and size of recent batches."""
        return -(-rows // max(1, self._board.batch_rows)) * self._board.batch_seconds

    async def predict(
        self,
        x: Array,
        *,
        ids: Sequence[str],
        groups: Mapping[str, Sequence[str | None]],
        deadline: float,
        causes: bool = False,
        stages: list[Stage] | None = None,
        client: str = "",
    ) -> Answer:
        """Judge and predict rows (n, ...) float32, one id each.

        Raises:
            Refused: the queue is full, the deadline cannot be met, or the engine is not ready.
            ModelFault: the model raised an exception.
        """
        channel, queued = self._room(len(x))
        if queued:
            wait = self._wait(queued + len(x))
            if asyncio.get_running_loop().time() + wait > deadline:
                raise Refused("deadline", "the deadline cannot be met", retry_after=wait)
        return await channel.ask(
            x, ids=ids, groups=groups, deadline=deadline, causes=causes, stages=stages, client=client
        )

    async def report(self, scope: Scope = "bundle") -> dict[str, Any]:
        """Return the report of every monitor, over the served bundle, its version or its lifetime.

        Raises:
            Refused: the server has no store, or the store is down.
        """
        _, body = await self.control.ask("report", {"scope": scope})
        report: dict[str, Any] = orjson.loads(body)
        return report

    async def join(self, outcomes: Sequence[Outcome]) -> Joined:
        """Store outcomes of known predictions durably.

        Raises:
            Refused: too many outcomes wait, or the store is down. They may be sent again: each outcome counts once.
        """
        _, body = await self.control.ask("join", body=orjson.dumps([asdict(outcome) for outcome in outcomes]))
        return Joined(**orjson.loads(body))

    async def change(self, change: Change) -> dict[str, Any]:
        """Record a change of the monitors, and return what became of it.

        Raises:
            Refused: the server has no store, the store is down, or the monitor cannot be reset.
        """
        _, body = await self.control.ask("change", {"change": asdict(change)})
        changed: dict[str, Any] = orjson.loads(body)
        return changed

    async def metrics(self) -> list[dict[str, Any]]:
        """Return the metric families that only the engine has.

        Raises:
            Refused: the engine cannot be reached.
        """
        if (trouble := self.control.trouble) is not None:  # a scrape must not wait for an engine that does not answer
            raise Refused("loading", trouble)
        _, body = await self.control.ask("metrics")
        families: list[dict[str, Any]] = orjson.loads(body)
        return families

    async def close(self) -> None:
        """Close all connections to the engine."""
        if self._opening is not None:
            self._opening.cancel()
        if self._rows is not None:
            self._rows.close()
        await self.control.close()

    def _on_state(self, state: dict[str, Any]) -> None:
        """Record what the engine serves, or the state that the engine has sent."""
        if "served" in state:
            served = ServedModel.model_validate(state["served"])
            if not self._served.done():
                self._served.set_result(served)
            if served != self._served.result() and not self._board.changed:
                self._board.changed = True  # for every front, also one that is started later
                LOG.critical("%s", CHANGED)
            return
        self._state = state
        self._told.set()
        # If the engine serves something else now, its slots have another layout, so no row may be sent to it.
        if state["state"] == "ready" and not self._board.changed and self._rows is None and self._opening is None:
            self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        served = self._served.result()
        count = room(served.server.max_queue_rows, short=True) + served.server.max_rows_per_request + SPARE_ROWS
        try:
            while self._state["state"] == "ready":
                try:
                    path = str(self._folder / ROW_SOCKET)
                    reached = await asyncio.to_thread(RowChannel.reach, path, served.layout, count, self._seat)
                    self._rows = RowChannel(*reached, self._seat, self._lost)
                    self._seat.connecting = False
                except OSError as refused:
                    LOG.warning("the engine's socket for rows: %s", refused.strerror or type(refused).__name__)
                    await asyncio.sleep(CONNECT_SECONDS)
                else:
                    return
        finally:
            self._opening = None

    def _lost(self) -> None:
        self._rows = None
        self._seat.connecting = self._listens
