"""The micro-batcher: bounded, fair, and only the culprit fails."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from service.answer import Answer
from service.batcher import Computation, MicroBatcher, ModelFaultError
from service.protocols.problem import Problem

Scenario = Callable[["Device", MicroBatcher], Awaitable[None]]


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
    """Computes nothing, remembers every batch, and waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.batches: list[list[float]] = []
        self.groups: list[dict[str, list[int]]] = []
        self.ids: list[list[str]] = []
        self.causes: list[bool] = []
        self.counted: list[int] = []
        self.learnt: list[list[float]] = []
        self.expectations = 0
        self.faults: list[Exception] = []
        self.waits: list[float] = []
        self.threads: set[str] = set()

    def compute(self, x: Any, groups: Mapping[str, Any], ids: Sequence[str], causes: bool) -> Computation:
        self.threads.add(threading.current_thread().name)
        self.batches.append(x[:, 0].tolist())
        self.groups.append({name: codes.tolist() for name, codes in groups.items()})
        self.ids.append(list(ids))
        self.causes.append(causes)
        assert self.go.wait(10)
        if (x[:, 0] < 0).any():
            raise ValueError("a negative row")
        return Computation(
            answer(x[:, 0]),
            lambda: self.counted.append(len(x)),
            lambda start, stop: self.learnt.append(x[start:stop, 0].tolist()),
            self.expected,
        )

    def expected(self) -> None:
        self.expectations += 1


def run(scenario: Scenario, *, batch: int = 4, queue: int = 100, groups: tuple[str, ...] = ()) -> Device:
    """Run a scenario with a batcher of its own, and close it."""
    device = Device()

    async def main() -> None:
        batcher = MicroBatcher(
            device.compute,
            max_batch_rows=batch,
            max_queue_rows=queue,
            on_wait=device.waits.append,
            on_fault=device.faults.append,
            groups=groups,
        )
        try:
            await asyncio.wait_for(scenario(device, batcher), 20)
        finally:
            device.go.set()
            await batcher.close()
        assert batcher.queued_rows == 0

    asyncio.run(main())
    return device


def rows(*values: float) -> Any:
    """Make rows (n, 1)."""
    return np.array(values, dtype=np.float32)[:, None]


def soon() -> float:
    """Give a deadline far enough away."""
    return asyncio.get_running_loop().time() + 15


async def submit(batcher: MicroBatcher, *values: float) -> list[float]:
    """Submit rows, and give the answered values."""
    said = await batcher.submit(rows(*values), {}, ids=[f"{value:g}" for value in values], deadline=soon())
    assert said.value is not None
    numbers: list[float] = said.value.tolist()
    return numbers


async def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


async def held(device: Device, batcher: MicroBatcher, *values: float) -> "asyncio.Task[list[float]]":
    """Start a batch that keeps the device busy until it is let go."""
    device.go.clear()
    before = len(device.batches)
    task = asyncio.create_task(submit(batcher, *values))
    await until(lambda: len(device.batches) > before)
    return task


def test_a_free_device_takes_what_is_there() -> None:
    """A lone request is computed at once and alone: no artificial wait."""

    async def scenario(_: Device, batcher: MicroBatcher) -> None:
        assert await submit(batcher, 1, 2) == [1, 2]

    device = run(scenario)
    assert device.batches == [[1, 2]]
    assert device.counted == [2]
    assert device.threads == {"device"}
    assert len(device.waits) == 1


def test_what_waits_goes_together() -> None:
    """Requests that came while the device was busy share the next batch, and each gets its own rows back."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 1)
        others = [asyncio.create_task(submit(batcher, value)) for value in (2, 3, 4)]
        await until(lambda: batcher.queued_rows == 3)
        device.go.set()
        assert await asyncio.gather(first, *others) == [[1], [2], [3], [4]]

    assert run(scenario).batches == [[1], [2, 3, 4]]


def test_a_long_request_takes_turns() -> None:
    """A request of many batches goes behind those that came after it, batch by batch, and comes back in order."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        long = asyncio.create_task(submit(batcher, *range(10, 20)))
        await until(lambda: batcher.queued_rows == 10)
        short = asyncio.create_task(submit(batcher, 1))
        await until(lambda: batcher.queued_rows == 11)
        device.go.set()
        assert await short == [1]
        assert await long == list(range(10, 20))
        await first

    batches = run(scenario, batch=4).batches
    assert batches == [[0], [10, 11, 12, 13], [1, 14, 15, 16], [17, 18, 19]]


def test_short_requests_are_not_starved_by_two_long_ones() -> None:
    """Two long requests and many short ones alternate: no short one waits for more than a turn of each long one."""
    finished: list[str] = []

    async def named(name: str, batcher: MicroBatcher, *values: float) -> None:
        await submit(batcher, *values)
        finished.append(name)

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        tasks = [asyncio.create_task(named(f"long{i}", batcher, *range(40))) for i in range(2)]
        await until(lambda: batcher.queued_rows == 80)
        tasks += [asyncio.create_task(named(f"short{i}", batcher, i)) for i in range(6)]
        await until(lambda: batcher.queued_rows == 86)
        device.go.set()
        await asyncio.gather(first, *tasks)

    run(scenario, batch=8)
    assert sorted(finished[:6]) == [f"short{i}" for i in range(6)]


def test_the_queue_is_bounded_in_rows() -> None:
    """Rows beyond the bound are refused at once with 503 and Retry-After; what is queued is still answered."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        second = asyncio.create_task(submit(batcher, 1, 2, 3))
        await until(lambda: batcher.queued_rows == 3)
        with pytest.raises(Problem) as refused:
            await submit(batcher, 4, 5, 6)
        assert (refused.value.status, refused.value.reason) == (503, "queue_full")
        assert int(refused.value.headers["Retry-After"]) >= 1
        third = asyncio.create_task(submit(batcher, 4, 5))
        await until(lambda: batcher.queued_rows == 5)
        device.go.set()
        assert await asyncio.gather(first, second, third) == [[0], [1, 2, 3], [4, 5]]

    run(scenario, queue=5)


def test_a_lost_deadline_is_refused() -> None:
    """Where the queue takes longer than a request has, by how long batches took of late, it is told at once."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        await asyncio.sleep(0.3)
        device.go.set()
        await first
        again = await held(device, batcher, 0)
        queued = asyncio.create_task(submit(batcher, *range(4)))
        await until(lambda: batcher.queued_rows == 4)
        with pytest.raises(Problem) as refused:
            await batcher.submit(rows(1), {}, ids=["1"], deadline=asyncio.get_running_loop().time() + 0.01)
        assert (refused.value.status, refused.value.reason) == (503, "deadline")
        device.go.set()
        await asyncio.gather(again, queued)

    assert len(run(scenario).batches) == 3


def test_rows_past_their_deadline_are_not_computed() -> None:
    """A job whose deadline passed while it waited is dropped, and takes no room in a batch."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                batcher.submit(rows(1, 2), {}, ids=["1", "2"], deadline=asyncio.get_running_loop().time() + 0.05), 0.05
            )
        assert batcher.queued_rows == 0  # at once: they take nobody's place
        later = asyncio.create_task(submit(batcher, 3))
        await until(lambda: batcher.queued_rows == 1)
        device.go.set()
        await asyncio.gather(first, later)

    assert run(scenario).batches == [[0], [3]]


def test_an_abandoned_job_is_not_computed() -> None:
    """A caller that went away costs the device nothing more, also in the middle of a long request."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        long = await held(device, batcher, *range(10))
        gone = asyncio.create_task(submit(batcher, 77))
        await until(lambda: batcher.queued_rows == 7)
        for task in (long, gone):
            task.cancel()
        await asyncio.gather(long, gone, return_exceptions=True)
        device.go.set()
        assert await submit(batcher, 5) == [5]

    assert run(scenario).batches == [[0, 1, 2, 3], [5]]


def test_rows_that_nobody_waits_for_teach_nothing() -> None:
    """Of a batch on the device, the rows whose caller left meanwhile are not learnt; their neighbours' are."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        tasks = [asyncio.create_task(submit(batcher, *values)) for values in ((1,), (2,), (3, 4))]
        await until(lambda: batcher.queued_rows == 4)
        going, device.go = device.go, threading.Event()
        going.set()
        await first
        await until(lambda: len(device.batches) == 2)
        tasks[1].cancel()
        await asyncio.sleep(0.01)
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

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        long = await held(device, batcher, *range(10))
        other = asyncio.create_task(submit(batcher, 77))
        await until(lambda: batcher.queued_rows == 7)
        if leaves:
            long.cancel()
            await until(lambda: batcher.queued_rows == 1)
        device.go.set()
        assert await other == [77]
        await asyncio.gather(long, return_exceptions=True)

    learnt = sorted(row for rows in run(scenario).learnt for row in rows)
    assert learnt == ([77] if leaves else [*range(10), 77])


def test_only_the_culprit_fails() -> None:
    """A batch that raises is run again request by request: the others get their answers, the culprit its fault."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        tasks = [asyncio.create_task(submit(batcher, *values)) for values in ((1,), (2, -1), (3,))]
        await until(lambda: batcher.queued_rows == 4)
        device.go.set()
        one, culprit, three = await asyncio.gather(*tasks, return_exceptions=True)
        assert (one, three) == ([1], [3])
        assert isinstance(culprit, ModelFaultError)
        assert isinstance(culprit.__cause__, ValueError)
        assert "negative" not in str(culprit)
        await first

    device = run(scenario)
    assert device.batches == [[0], [1, 2, -1, 3], [1], [2, -1], [3]]
    assert [str(fault) for fault in device.faults] == ["a negative row"]
    assert device.counted == [1, 1, 1]


def test_a_long_request_that_fails_is_not_computed_on() -> None:
    """Once a piece of a request failed the rest of it is dropped, and the worker goes on."""

    async def scenario(_: Device, batcher: MicroBatcher) -> None:
        with pytest.raises(ModelFaultError):
            await submit(batcher, -1, *range(20))
        assert await submit(batcher, 1) == [1]

    device = run(scenario)
    assert device.batches == [[-1, 0, 1, 2], [1]]
    assert len(device.faults) == 1


def test_bookkeeping_that_crashes_stops_nothing() -> None:
    """What is counted after a batch may crash: it is reported, and the next batch runs."""
    faults: list[Exception] = []

    def crash() -> None:
        raise RuntimeError("a monitor")

    async def main() -> None:
        batcher = MicroBatcher(
            lambda x, _, __, ___: Computation(answer(x[:, 0]), crash, lambda *_: crash(), lambda: None),
            max_batch_rows=4,
            max_queue_rows=10,
            on_wait=lambda _: None,
            on_fault=faults.append,
        )
        assert await submit(batcher, 1) == [1]
        assert await submit(batcher, 2) == [2]
        await batcher.close()

    asyncio.run(main())
    assert [str(fault) for fault in faults] == ["a monitor"] * 4


def test_close_finishes_what_is_queued() -> None:
    """Closing answers what waits, and refuses what comes after."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        waiting = [asyncio.create_task(submit(batcher, *range(7))) for _ in range(3)]
        await until(lambda: batcher.queued_rows == 21)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await submit(batcher, 1)
        assert refused.value.reason == "draining"
        device.go.set()
        await closing
        assert await asyncio.gather(first, *waiting) == [[0], *[list(range(7))] * 3]

    run(scenario)


def test_groups_ride_with_their_rows() -> None:
    """Level codes are cut and joined exactly as the rows are."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        device.go.clear()
        first = asyncio.create_task(batcher.submit(rows(0), {"sex": np.array([9])}, ids=["0"], deadline=soon()))
        await until(lambda: bool(device.batches))
        jobs = [((1, 2, 3), [1, 2, 3]), ((4, 5), [4, 5])]
        tasks = [
            asyncio.create_task(
                batcher.submit(rows(*values), {"sex": np.array(codes)}, ids=list(map(str, values)), deadline=soon())
            )
            for values, codes in jobs
        ]
        await until(lambda: batcher.queued_rows == 5)
        device.go.set()
        await asyncio.gather(first, *tasks)

    device = run(scenario, batch=4, groups=("sex",))
    assert device.batches == [[0], [1, 2, 3, 4], [5]]
    assert [batch["sex"] for batch in device.groups] == [[9], [1, 2, 3, 4], [5]]


def test_causes_are_asked_for_where_any_request_wants_them() -> None:
    """Causes cost time: a batch has them when one of its requests asked."""

    async def scenario(device: Device, batcher: MicroBatcher) -> None:
        first = await held(device, batcher, 0)
        plain = asyncio.create_task(submit(batcher, 1))
        curious = asyncio.create_task(batcher.submit(rows(2), {}, ids=["2"], deadline=soon(), causes=True))
        await until(lambda: batcher.queued_rows == 2)
        device.go.set()
        await asyncio.gather(first, plain, curious)
        await submit(batcher, 3)

    assert run(scenario).causes == [False, True, False]


def test_many_requests_of_many_sizes_all_come_back() -> None:
    """Whatever the mix, every request gets its own rows in its own order, and no batch is over its bound."""
    rng = np.random.default_rng(0)
    requests = [rng.integers(0, 1000, size).astype(float).tolist() for size in rng.integers(1, 30, 200)]

    async def scenario(_: Device, batcher: MicroBatcher) -> None:
        assert await asyncio.gather(*(submit(batcher, *values) for values in requests)) == requests

    device = run(scenario, batch=16, queue=10_000)
    assert max(map(len, device.batches)) <= 16
    assert sum(map(len, device.batches)) == sum(map(len, requests))
    assert len(device.batches) <= sum(map(len, requests)) // 16 + 2
    assert len(device.waits) == len(requests)


def test_joined_answers_keep_causes_that_one_piece_lacks() -> None:
    """Where a guard crashed on all of one piece of a request, its causes of the other pieces are kept."""
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
