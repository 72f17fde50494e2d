"""The engine as a front sees it, over real sockets and shared memory: bounds, refusals, and an engine that changes."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from local_engine import served_model_of
from tiny_models import fitted
from waiting import until_in_loop as until

from service.engine.batcher import Batcher
from service.engine.control_server import ControlServer
from service.engine.job import Computed, Lesson
from service.engine.row_server import RowServer
from service.front.control_channel import SILENT, EngineFaultError
from service.front.remote_engine import CHANGED, RemoteEngine
from service.messages.answer import Answer
from service.messages.board import Board
from service.messages.paths import BOARD, CONTROL_SOCKET, ROW_SOCKET
from service.messages.refused import Refused

QUEUE = 16


class Engine:
    """The engine's sockets and thread, with a device that waits until it is let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.served = served_model_of(
            fitted("tensor", server={"max_queue_rows": QUEUE, "max_rows_per_request": 4}).bundle
        )
        Board.make(folder / BOARD, 2)
        self.board = Board(folder / BOARD)
        self.go = threading.Event()
        self.go.set()
        self.reports: list[str] = []
        self.control, self.rows, self.batcher = self._made(self.served.model_dump(mode="json"))

    def _made(self, served: Mapping[str, Any]) -> tuple[ControlServer, RowServer, Batcher]:
        control = ControlServer(served, {"report": self._report, "metrics": self._fail})
        batcher = Batcher(
            self._compute, self, self.board, max_batch_rows=4, attributes=(), on_wait=lambda _: None, on_fault=print
        )
        rows = RowServer(self.folder / ROW_SOCKET, self.served.layout, self.board, lambda *_: {}, batcher.add)
        return control, rows, batcher

    def _compute(self, x: Any, _: Any, ids: Sequence[str], *__: bool) -> Computed:
        assert self.go.wait(60)
        n, classes, guards = len(x), len(self.served.classes), len(self.served.guards)
        answer = Answer(
            action=np.zeros(n, np.uint8), p_value=np.ones((n, guards), np.float32),
            flagged=np.zeros((n, guards), bool), violated=None, causes={},
            probabilities=np.full((n, classes), x.reshape(n, -1)[:, :1], np.float32), label=np.zeros(n, np.int32),
            members=None, value=None, interval=None,
        )  # fmt: skip
        return Computed(answer, ids, None, tuple)

    def expect(self, _: int) -> None:
        """Keep no books."""

    def keep(self, _: Sequence[Lesson]) -> None:
        """Keep no books."""

    def ran(self, _: Computed) -> None:
        """Keep no books."""

    async def _report(self, head: dict[str, Any], _: bytes) -> tuple[Mapping[str, Any], bytes]:
        self.reports.append(head["scope"])
        if head["scope"] == "version":
            raise Refused("store_down", "the store is down", retry_after=7)
        return {}, orjson.dumps({"of": head["scope"]})

    async def _fail(self, _: dict[str, Any], __: bytes) -> tuple[Mapping[str, Any], bytes]:
        raise ZeroDivisionError(f"row {QUEUE + 1}")

    async def start(self) -> None:
        await self.control.start(self.folder / CONTROL_SOCKET)
        self.batcher.start()
        self.control.say("ready")

    async def stop(self) -> None:
        self.go.set()
        self.rows.close()
        await asyncio.to_thread(self.batcher.close)
        await self.control.close()


def run(folder: Path, scenario: Callable[[Engine, RemoteEngine], Awaitable[None]]) -> None:
    """Run a scenario with an engine and a client of it."""

    async def main() -> None:
        engine = Engine(folder)
        await engine.start()
        client = RemoteEngine(folder, engine.board, engine.board.take_seat())
        try:
            assert await client.served() == engine.served
            await until(lambda: client.ready() is None)
            await asyncio.wait_for(scenario(engine, client), 120)
        finally:
            await client.close()
            await engine.stop()

    asyncio.run(main())


def rows(engine: Engine, count: int, value: float = 0.5) -> Any:
    """Make rows of one value."""
    return np.full((count, *engine.served.rows.shape), value, np.float32)


async def predict(
    engine: Engine, client: RemoteEngine, count: int = 1, value: float = 0.5, seconds: float = 60
) -> Answer:
    """Predict rows of one value."""
    deadline = asyncio.get_running_loop().time() + seconds
    return await client.predict(rows(engine, count, value), ids=["x"] * count, groups={}, deadline=deadline)


def test_what_the_queue_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Rows beyond `max_queue_rows` are refused before they are decoded; short requests have a quarter more room."""

    async def scenario(engine: Engine, client: RemoteEngine) -> None:
        engine.go.clear()
        running = asyncio.create_task(predict(engine, client))
        await until(lambda: engine.board.seat(1).submitted == 1 and engine.board.queued_rows == 0)
        waiting = [asyncio.create_task(predict(engine, client, 4, value / 10)) for value in range(4)]
        await until(lambda: engine.board.queued_rows == QUEUE)
        with pytest.raises(Refused) as refused:
            client.check_room(2)
        assert refused.value.reason == "queue_full"
        with pytest.raises(Refused, match="full"):
            await predict(engine, client, 2)
        waiting += [asyncio.create_task(predict(engine, client, 1, 0.9)) for _ in range(QUEUE // 4)]
        await until(lambda: engine.board.queued_rows == QUEUE + QUEUE // 4)
        with pytest.raises(Refused, match="full"):
            client.check_room()
        engine.go.set()
        await running
        for value, answer in zip([0, 1, 2, 3, 9, 9, 9, 9], await asyncio.gather(*waiting), strict=True):
            assert answer.probabilities is not None
            assert (answer.probabilities == np.float32(value / 10)).all()
        client.check_room(4)

    run(tmp_path, scenario)


def test_a_deadline_that_cannot_be_met_is_refused(tmp_path: Path) -> None:
    """If the queue takes longer than a request has, by recent batches, the request is refused at once."""

    async def scenario(engine: Engine, client: RemoteEngine) -> None:
        engine.go.clear()
        running = asyncio.create_task(predict(engine, client))
        await until(lambda: engine.board.seat(1).submitted == 1 and engine.board.queued_rows == 0)
        waiting = asyncio.create_task(predict(engine, client, 4))
        await until(lambda: engine.board.queued_rows == 4)
        engine.board.batch_seconds = 2.0
        with pytest.raises(Refused) as refused:
            await predict(engine, client, seconds=0.5)
        assert refused.value.reason == "deadline"
        assert refused.value.retry_after >= 2
        engine.go.set()
        await asyncio.gather(running, waiting)

    run(tmp_path, scenario)


def test_questions_are_answered_refused_or_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal crosses with its reason; a fault crosses as its kind alone, and its message is in no log."""

    async def scenario(engine: Engine, client: RemoteEngine) -> None:
        assert await client.report() == {"of": "bundle"}
        with pytest.raises(Refused) as refused:
            await client.report("version")
        assert (refused.value.reason, refused.value.retry_after) == ("store_down", 7)
        with pytest.raises(EngineFaultError, match="ZeroDivisionError"):
            await client.metrics()
        assert engine.reports == ["bundle", "version"]

    run(tmp_path, scenario)
    assert "ZeroDivisionError while answering 'metrics'" in caplog.text
    assert "row 17" not in caplog.text


def test_an_engine_that_serves_something_else_gets_no_rows(tmp_path: Path) -> None:
    """If the bundle was changed while the engine was away, every front refuses with that reason; no row is misread."""

    async def scenario(engine: Engine, client: RemoteEngine) -> None:
        await engine.stop()
        await until(lambda: client.ready() is not None)
        other = engine.served.model_copy(update={"version": "another"})
        engine.control, engine.rows, engine.batcher = engine._made(other.model_dump(mode="json"))
        await engine.start()
        await until(lambda: client.ready() == CHANGED)
        with pytest.raises(Refused, match="restart the server"):
            await predict(engine, client)
        later = RemoteEngine(tmp_path, engine.board, engine.board.seat(1))  # a front that is started after that
        await later.served()
        assert later.ready() == CHANGED
        await later.close()

    run(tmp_path, scenario)


def test_a_front_that_waits_for_the_engine_can_predict_at_once(tmp_path: Path) -> None:
    """Once a client of a ready engine has settled, it can predict; a client of a loading engine does not wait."""

    async def main() -> None:
        engine = Engine(tmp_path)
        await engine.start()
        first = RemoteEngine(tmp_path, engine.board, engine.board.take_seat())
        try:
            assert await first.settled() == engine.served
            assert first.ready() is None
            first.listens()
            assert not engine.board.connecting
            engine.control.say("loading", "busy")
            await until(lambda: first.ready() is not None or first._state["state"] == "loading")
            second = RemoteEngine(tmp_path, engine.board, engine.board.take_seat())
            try:
                await asyncio.wait_for(second.settled(), 60)
                assert second.ready() == "busy"
                assert not engine.board.connecting  # it does not listen yet
                second.listens()
                assert engine.board.connecting
                engine.control.say("ready")
                await until(lambda: second.ready() is None)
                assert not engine.board.connecting
            finally:
                await second.close()
        finally:
            await first.close()
            await engine.stop()

    asyncio.run(main())


def test_a_front_that_stalls_does_not_blame_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a front's own loop stood still, the engine does not count as silent; if the engine is silent, it does."""
    monkeypatch.setattr("service.front.control_channel.PING_SECONDS", 0.05)
    monkeypatch.setattr("service.front.control_channel.SILENT_SECONDS", 0.3)

    async def scenario(engine: Engine, client: RemoteEngine) -> None:
        await asyncio.sleep(0.1)
        for _ in range(3):
            time.sleep(0.5)  # noqa: ASYNC251 - the loop has to stand still
            assert client.ready() is None
            await asyncio.sleep(0)
            assert client.ready() is None
        engine.control._reply = lambda *_: asyncio.sleep(100)  # type: ignore[method-assign, assignment]
        await until(lambda: client.ready() == SILENT)

    run(tmp_path, scenario)


def test_an_engine_that_comes_back_serves_on(tmp_path: Path) -> None:
    """A front that has lost the engine finds the next one by itself."""

    async def scenario(engine: Engine, client: RemoteEngine) -> None:
        await predict(engine, client)
        await engine.stop()
        await until(lambda: client.ready() is not None)
        with pytest.raises(Refused):
            await predict(engine, client)
        engine.control, engine.rows, engine.batcher = engine._made(engine.served.model_dump(mode="json"))
        await engine.start()
        await until(lambda: client.ready() is None)
        assert len(await predict(engine, client, 3)) == 3

    run(tmp_path, scenario)
