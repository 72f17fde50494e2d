"""The batcher behind a real socket and real shared memory: it is fair, and only the faulty request fails."""

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import until_in_loop as until

from service.engine.batcher import Batcher
from service.engine.job import Computed, Lesson
from service.engine.row_server import RowServer
from service.front.row_channel import RowChannel
from service.messages.answer import Answer
from service.messages.board import Board
from service.messages.refused import ModelFault
from service.messages.slots import Layout

EXIT = -77.0
LAYOUT = Layout(shape=(1,), guards=0, classes=0, causes={})
Scenario = Callable[["Device", "Link"], Awaitable[None]]


def answer(values: Any) -> Answer:
    """Make a regression's answer of the rows' own first column."""
    n = len(values)
    return Answer(
        action=np.zeros(n, dtype=np.int64),
        p_value=np.ones((n, 0)),
        flagged=np.zeros((n, 0), dtype=bool),
        violated=None,
        causes={},
        probabilities=None,
        label=None,
        members=None,
        value=np.asarray(values),
        interval=None,
    )


class Device:
    """Computes nothing, remembers every batch, waits until it is let go, and keeps the books."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.batches: list[list[float]] = []
        self.groups: list[dict[str, list[int]]] = []
        self.ids: list[list[str]] = []
        self.causes: list[bool] = []
        self.hurried: list[bool] = []
        self.counted: list[int] = []
        self.learnt: list[list[float]] = []
        self.expectations = 0
        self.faults: list[Exception] = []
        self.waits: list[float] = []
        self.threads: set[str] = set()
        self.books_crash = False

    def compute(
        self, x: Any, groups: Mapping[str, Any], ids: Sequence[str], causes: bool, hurried: bool, _: object
    ) -> Computed:
        self.hurried.append(hurried)
        self.threads.add(threading.current_thread().name)
        self.batches.append(x[:, 0].tolist())
        self.groups.append({name: codes.tolist() for name, codes in groups.items()})
        self.ids.append(list(ids))
        self.causes.append(causes)
        assert self.go.wait(60)
        if (x[:, 0] == EXIT).any():
            raise SystemExit(4)
        if (x[:, 0] < 0).any():
            raise ValueError("a negative row")
        return Computed(answer(x[:, 0]), ids, x[:, 0].tolist(), tuple)

    def expect(self, lessons: int) -> None:
        self.expectations += lessons

    def keep(self, lessons: Sequence[Lesson]) -> None:
        if self.books_crash:
            raise RuntimeError("a monitor")
        self.learnt += [computed.about[start:stop] for computed, start, stop in lessons]

    def ran(self, computed: Computed) -> None:
        self.counted.append(len(computed.answer))


class Link:
    """A front's connection to a batcher."""

    def __init__(self, channel: RowChannel, board: Board, batcher: Batcher, path: str) -> None:
        self.channel, self.board, self.batcher, self.path = channel, board, batcher, path

    @property
    def queued_rows(self) -> int:
        return self.board.queued_rows

    async def submit(
        self,
        x: Any,
        groups: Mapping[str, Sequence[str | None]],
        *,
        ids: Sequence[str],
        deadline: float,
        causes: bool = False,
    ) -> Answer:
        return await self.channel.ask(x, ids=ids, groups=groups, deadline=deadline, causes=causes, stages=None)


def codes(rows: int, groups: Mapping[str, Sequence[str | None]]) -> Mapping[str, Any]:
    """Turn the names of groups, which are numbers here, into level codes."""
    return {name: np.array([int(value or -1) for value in values]) for name, values in groups.items()} or {
        "sex": np.full(rows, -1)
    }


def run(scenario: Scenario, *, batch: int = 4, slots: int = 1000, groups: tuple[str, ...] = ()) -> Device:
    """Run a scenario with a batcher of its own, and close it."""
    device = Device()

    async def main(folder: Path) -> None:
        Board.make(folder / "board", 1)
        board = Board(folder / "board")
        batcher = Batcher(
            device.compute,
            device,
            board,
            max_batch_rows=batch,
            attributes=groups,
            on_wait=device.waits.append,
            on_fault=device.faults.append,
        )
        batcher.start()
        server = RowServer(folder / "rows", LAYOUT, board, codes, batcher.add)
        seat = board.take_seat()
        channel = await asyncio.to_thread(RowChannel.reach, str(folder / "rows"), LAYOUT, slots, seat)
        link = Link(RowChannel(*channel, seat, lambda: None), board, batcher, str(folder / "rows"))
        try:
            await asyncio.wait_for(scenario(device, link), 120)
        finally:
            device.go.set()
            await asyncio.to_thread(batcher.close)
            server.close()
            link.channel.close()
        assert board.queued_rows == 0

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
    return device


def rows(*values: float) -> Any:
    """Make rows (n, 1)."""
    return np.array(values, dtype=np.float32)[:, None]


def soon() -> float:
    """Give a deadline far enough away."""
    return asyncio.get_running_loop().time() + 90


async def submit(link: Link, *values: float) -> list[float]:
    """Submit rows, and give the answered values."""
    said = await link.submit(rows(*values), {}, ids=[f"{value:g}" for value in values], deadline=soon())
    assert said.value is not None
    numbers: list[float] = said.value.tolist()
    return numbers


async def held(device: Device, link: Link, *values: float) -> "asyncio.Task[list[float]]":
    """Start a batch that keeps the device busy until it is let go."""
    device.go.clear()
    before = len(device.batches)
    task = asyncio.create_task(submit(link, *values))
    await until(lambda: len(device.batches) > before)
    return task


def test_a_free_device_takes_what_is_there() -> None:
    """A lone request is computed at once and alone: no artificial wait."""

    async def scenario(_: Device, link: Link) -> None:
        assert await submit(link, 1, 2) == [1, 2]

    device = run(scenario)
    assert device.batches == [[1, 2]]
    assert device.counted == [2]
    assert device.threads == {"device"}
    assert len(device.waits) == 1


def test_what_waits_goes_together() -> None:
    """Requests that came while the device was busy share the next batch, and each gets its own rows back."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 1)
        others = [asyncio.create_task(submit(link, value)) for value in (2, 3, 4)]
        await until(lambda: link.queued_rows == 3)
        device.go.set()
        assert await asyncio.gather(first, *others) == [[1], [2], [3], [4]]

    assert run(scenario).batches == [[1], [2, 3, 4]]


def test_a_long_request_takes_turns() -> None:
    """A request of many batches goes behind those that came after it, batch by batch, and comes back in order."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        long = asyncio.create_task(submit(link, *range(10, 20)))
        await until(lambda: link.queued_rows == 10)
        short = asyncio.create_task(submit(link, 1))
        await until(lambda: link.queued_rows == 11)
        device.go.set()
        assert await short == [1]
        assert await long == list(range(10, 20))
        await first

    batches = run(scenario, batch=4).batches
    assert batches == [[0], [1, 10, 11, 12], [13, 14, 15, 16], [17, 18, 19]]


def test_short_requests_go_before_long_ones_in_half_of_a_batch() -> None:
    """A request of a quarter of a batch waits for no long request, and a crowd of them takes half of each batch."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        tasks = [asyncio.create_task(submit(link, *values)) for values in (range(10, 16), range(20, 26))]
        await until(lambda: link.queued_rows == 12)
        tasks += [asyncio.create_task(submit(link, value, value)) for value in (1, 2, 3)]
        await until(lambda: link.queued_rows == 18)
        device.go.set()
        await asyncio.gather(first, *tasks)

    batches = run(scenario, batch=8).batches
    assert batches == [[0], [1, 1, 2, 2, 10, 11, 12, 13], [3, 3, 20, 21, 22, 23, 24, 25], [14, 15]]


def test_short_requests_are_not_starved_by_two_long_ones() -> None:
    """Two long requests and many short ones alternate: no short one waits for more than a turn of each long one."""
    finished: list[str] = []

    async def named(name: str, link: Link, *values: float) -> None:
        await submit(link, *values)
        finished.append(name)

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        tasks = [asyncio.create_task(named(f"long{i}", link, *range(40))) for i in range(2)]
        await until(lambda: link.queued_rows == 80)
        tasks += [asyncio.create_task(named(f"short{i}", link, i)) for i in range(6)]
        await until(lambda: link.queued_rows == 86)
        device.go.set()
        await asyncio.gather(first, *tasks)

    run(scenario, batch=8)
    assert sorted(finished[:6]) == [f"short{i}" for i in range(6)]


def test_rows_past_their_deadline_are_not_computed() -> None:
    """A job whose deadline passed while it waited is dropped, and takes no room in a batch."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                link.submit(rows(1, 2), {}, ids=["1", "2"], deadline=asyncio.get_running_loop().time() + 0.05), 0.05
            )
        assert link.queued_rows == 0  # at once: they take nobody's place
        later = asyncio.create_task(submit(link, 3))
        await until(lambda: link.queued_rows == 1)
        device.go.set()
        await asyncio.gather(first, later)

    assert run(scenario).batches == [[0], [3]]


def test_an_abandoned_job_is_not_computed() -> None:
    """A caller that went away costs the device nothing more, also in the middle of a long request."""

    async def scenario(device: Device, link: Link) -> None:
        long = await held(device, link, *range(10))
        gone = asyncio.create_task(submit(link, 77))
        await until(lambda: link.queued_rows == 7)
        for task in (long, gone):
            task.cancel()
        await asyncio.gather(long, gone, return_exceptions=True)
        device.go.set()
        assert await submit(link, 5) == [5]

    assert run(scenario).batches == [[0, 1, 2, 3], [5]]


def test_rows_that_nobody_waits_for_teach_nothing() -> None:
    """Of a batch on the device, the rows whose caller left meanwhile are not learnt; their neighbours' are."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        tasks = [asyncio.create_task(submit(link, *values)) for values in ((1,), (2,), (3, 4))]
        await until(lambda: link.queued_rows == 4)
        going, device.go = device.go, threading.Event()
        going.set()
        await first
        await until(lambda: len(device.batches) == 2)
        tasks[1].cancel()
        await asyncio.sleep(0.02)
        device.go.set()
        assert await tasks[0] == [1]
        assert await tasks[2] == [3, 4]

    device = run(scenario)
    assert device.batches == [[0], [1, 2, 3, 4]]
    assert device.learnt == [[0], [1], [3, 4]]
    assert device.expectations == 3
    assert device.counted == [1, 4]


@pytest.mark.parametrize("leaves", [True, False])
def test_a_long_request_teaches_once_it_is_answered(leaves: bool) -> None:
    """Its rows are learnt together with its answer, and none of them if its caller leaves before the last piece."""

    async def scenario(device: Device, link: Link) -> None:
        long = await held(device, link, *range(10))
        other = asyncio.create_task(submit(link, 77))
        await until(lambda: link.queued_rows == 7)
        if leaves:
            long.cancel()
            await until(lambda: link.queued_rows <= 1)  # less, for the rows that are being computed
        device.go.set()
        assert await other == [77]
        await asyncio.gather(long, return_exceptions=True)

    learnt = sorted(row for rows in run(scenario).learnt for row in rows)
    assert learnt == ([77] if leaves else [*range(10), 77])


def test_only_the_culprit_fails() -> None:
    """A batch that raises is run again request by request: the others get their answers, the culprit its fault."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        tasks = [asyncio.create_task(submit(link, *values)) for values in ((1,), (2, -1), (3,))]
        await until(lambda: link.queued_rows == 4)
        device.go.set()
        one, culprit, three = await asyncio.gather(*tasks, return_exceptions=True)
        assert (one, three) == ([1], [3])
        assert isinstance(culprit, ModelFault)
        assert culprit.kind == "ValueError"
        assert "negative" not in str(culprit)
        await first

    device = run(scenario)
    assert device.batches == [[0], [1, 3, 2, -1], [1], [3], [2, -1]]
    assert [str(fault) for fault in device.faults] == ["a negative row"]
    assert device.counted == [1, 1, 1]


def test_a_long_request_that_fails_is_not_computed_on() -> None:
    """Once a piece of a request failed the rest of it is dropped, and the worker goes on."""

    async def scenario(_: Device, link: Link) -> None:
        with pytest.raises(ModelFault):
            await submit(link, -1, *range(20))
        assert await submit(link, 1) == [1]

    device = run(scenario)
    assert device.batches == [[-1, 0, 1, 2], [1]]
    assert len(device.faults) == 1


def test_books_that_crash_stop_nothing() -> None:
    """Counting what was answered may crash: the fault is reported, and the next batch runs."""

    async def scenario(device: Device, link: Link) -> None:
        device.books_crash = True
        assert await submit(link, 1) == [1]
        assert await asyncio.to_thread(link.batcher.settle, 60)
        assert await submit(link, 2) == [2]

    assert [str(fault) for fault in run(scenario).faults] == ["a monitor"] * 2


def test_close_finishes_what_is_queued() -> None:
    """Closing answers what waits."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        waiting = [asyncio.create_task(submit(link, *range(7))) for _ in range(3)]
        await until(lambda: link.queued_rows == 21)
        closing = asyncio.create_task(asyncio.to_thread(link.batcher.close))
        await asyncio.sleep(0)
        device.go.set()
        await closing
        assert await asyncio.gather(first, *waiting) == [[0], *[list(range(7))] * 3]

    run(scenario)


def test_books_wait_for_a_quiet_moment() -> None:
    """Batches in quick succession share one entry of the books; a caller that waits for the books gets them at once."""

    async def scenario(device: Device, link: Link) -> None:
        for value in range(5):
            await submit(link, value)
        assert await asyncio.to_thread(link.batcher.settle, 60)
        assert [row for rows in device.learnt for row in rows] == [0, 1, 2, 3, 4]

    assert run(scenario).expectations == 5


def test_groups_ride_with_their_rows() -> None:
    """Level codes are cut and joined exactly as the rows are."""

    async def scenario(device: Device, link: Link) -> None:
        device.go.clear()
        first = asyncio.create_task(link.submit(rows(0), {"sex": ["9"]}, ids=["0"], deadline=soon()))
        await until(lambda: bool(device.batches))
        jobs = [((1, 2, 3), [1, 2, 3]), ((4, 5), [4, 5])]
        tasks = [
            asyncio.create_task(
                link.submit(rows(*values), {"sex": list(map(str, codes))}, ids=list(map(str, values)), deadline=soon())
            )
            for values, codes in jobs
        ]
        await until(lambda: link.queued_rows == 5)
        device.go.set()
        await asyncio.gather(first, *tasks)

    device = run(scenario, batch=4, groups=("sex",))
    assert device.batches == [[0], [1, 2, 3, 4], [5]]
    assert [batch["sex"] for batch in device.groups] == [[9], [1, 2, 3, 4], [5]]


def test_a_batch_is_hurried_while_more_than_another_batch_waits() -> None:
    """Optional guards are left out of a batch only if more rows wait behind it than fit into the next one."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        rest = [asyncio.create_task(submit(link, number)) for number in range(1, 11)]
        await until(lambda: link.queued_rows == 10)
        device.go.set()
        await asyncio.gather(first, *rest)

    device = run(scenario)
    waiting = [sum(map(len, device.batches[place + 1 :])) for place in range(1, len(device.batches))]
    assert device.hurried == [False, *(rows > 4 for rows in waiting)]
    assert True in device.hurried


def test_causes_are_asked_for_where_any_request_wants_them() -> None:
    """Causes cost time: a batch has them when one of its requests asked."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        plain = asyncio.create_task(submit(link, 1))
        curious = asyncio.create_task(link.submit(rows(2), {}, ids=["2"], deadline=soon(), causes=True))
        await until(lambda: link.queued_rows == 2)
        device.go.set()
        await asyncio.gather(first, plain, curious)
        await submit(link, 3)

    assert run(scenario).causes == [False, True, False]


def test_many_requests_of_many_sizes_all_come_back() -> None:
    """Every request gets its own rows in its own order, and no batch exceeds its bound."""
    rng = np.random.default_rng(0)
    requests = [rng.integers(0, 1000, size).astype(float).tolist() for size in rng.integers(1, 30, 200)]

    async def scenario(_: Device, link: Link) -> None:
        assert await asyncio.gather(*(submit(link, *values) for values in requests)) == requests

    device = run(scenario, batch=16, slots=10_000)
    assert max(map(len, device.batches)) <= 16
    assert sum(map(len, device.batches)) == sum(map(len, requests))
    assert len(device.batches) <= sum(map(len, requests)) // 16 + len(requests) // 4
    assert len(device.waits) == len(requests)


def test_joined_answers_keep_causes_that_one_piece_lacks() -> None:
    """If a guard crashed on all of one piece of a request, its causes of the other pieces are kept."""
    first, second = (
        Answer(**{**_fields(answer([1.0, 2.0])), "causes": causes})
        for causes in ({"quality": np.array([[True, False], [False, False]])}, {})
    )
    for pieces, expected in (((first, second), [1, 0, 0, 0]), ((second, first), [0, 0, 1, 0])):
        joined = Answer.join(pieces)
        assert joined.causes["quality"][:, 0].tolist() == [bool(one) for one in expected]
        assert joined.causes["quality"].shape == (4, 2)


def _fields(one: Answer) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Answer.__slots__}


def test_a_burst_does_not_keep_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once no row is with the engine for a while, only the first slots keep their memory, and they are used first."""
    monkeypatch.setattr("service.front.row_channel.KEPT_BYTES", 64 * 10)
    monkeypatch.setattr("service.front.row_channel.IDLE_SECONDS", 0.01)

    async def scenario(_: Device, link: Link) -> None:
        values = list(map(float, range(200)))
        assert await submit(link, *values) == values
        await until(lambda: link.channel._touched == 10)
        assert await submit(link, *values) == values
        await until(lambda: link.channel._touched == 10)
        assert link.channel.free == 1000

    run(scenario, batch=64)


def test_a_model_that_exits_fails_its_request_alone() -> None:
    """SystemExit from a model, which would end the thread without a word, is a fault like any other."""

    async def scenario(_: Device, link: Link) -> None:
        with pytest.raises(ModelFault, match="SystemExit"):
            await submit(link, EXIT)
        assert await submit(link, 1) == [1]

    assert [type(fault).__name__ for fault in run(scenario).faults] == ["SystemExit"]


def test_a_front_that_takes_the_seat_of_a_dead_one_counts_for_itself() -> None:
    """While a long batch runs, a front is killed and another one takes its seat: the queue's count stays right."""

    async def scenario(device: Device, link: Link) -> None:
        first = await held(device, link, 0)
        old = asyncio.create_task(submit(link, *range(20)))
        await until(lambda: link.queued_rows == 20)
        link.channel.close()  # whose end the device's thread reads only after its batch
        await asyncio.gather(first, old, return_exceptions=True)
        seat = link.board.seat(1)
        reached = await asyncio.to_thread(RowChannel.reach, link.path, LAYOUT, 1000, seat)
        new = Link(RowChannel(*reached, seat, lambda: None), link.board, link.batcher, link.path)
        waiting = asyncio.create_task(submit(new, *range(8)))
        await until(lambda: link.queued_rows == 8)
        device.go.set()
        assert await waiting == list(range(8))
        await until(lambda: link.queued_rows == 0)
        new.channel.close()

    run(scenario)
