"""The threads in which a front does its clients' long work."""

import asyncio
import contextlib
import threading
from collections.abc import Callable

import pytest
from waiting import until

from service.front import client_threads
from service.front.client_threads import ClientThreads, NobodyWaitsError, take_turns
from service.messages.refused import Refused


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_threads, "TURN_SECONDS", -1.0)


def parts(count: int, done: list[str], name: str, begun: threading.Event | None = None) -> Callable[[], int]:
    """Make a piece of work of so many parts, which notes each part."""

    def work() -> int:
        for _ in range(count):
            take_turns()
            done.append(name)
            if begun is not None:
                begun.set()
        return count

    return work


def test_a_request_of_many_parts_takes_turns() -> None:
    """A piece of one part does not wait for all parts of a piece that began before."""
    done: list[str] = []
    gate = threading.Event()

    def long() -> None:
        done.append("begin")
        gate.wait(60)
        parts(100, done, "long")()

    async def main() -> None:
        threads = ClientThreads(1)
        first = asyncio.create_task(threads.run(long))
        await asyncio.to_thread(until, lambda: done)
        second = asyncio.create_task(threads.run(parts(1, done, "short")))
        await asyncio.to_thread(until, lambda: threads._queue)
        gate.set()
        assert await second == 1
        await first

    asyncio.run(main())
    assert done.index("short") <= 2
    assert done.count("long") == 100


def test_work_ends_if_nobody_waits() -> None:
    """A piece of work whose task is cancelled stops at its next part, and its thread is free again."""
    done: list[str] = []
    begun = threading.Event()

    async def main() -> None:
        threads = ClientThreads(1)
        task = asyncio.create_task(threads.run(parts(10**9, done, "endless", begun)))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert await threads.run(parts(3, done, "next")) == 3
        await asyncio.to_thread(until, lambda: not threads._open)

    asyncio.run(main())
    assert done[-3:] == ["next"] * 3


def test_work_that_has_not_begun_is_dropped() -> None:
    """Work that still waits for a thread never begins if its task is cancelled."""
    done: list[str] = []
    gate = threading.Event()

    async def main() -> None:
        threads = ClientThreads(1, begun=1)
        first = asyncio.create_task(threads.run(lambda: gate.wait(60)))
        second = asyncio.create_task(threads.run(parts(1, done, "never")))
        await asyncio.sleep(0)
        second.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await second
        gate.set()
        assert await first

    asyncio.run(main())
    assert not done


def test_too_much_work_is_refused() -> None:
    """Beyond its bound the threads take no more requests, and they take them again once work has ended."""
    gate = threading.Event()

    async def main() -> None:
        threads = ClientThreads(1, begun=1, waiting=1)
        tasks = [asyncio.create_task(threads.run(lambda: gate.wait(60))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            threads.check_room()
        assert refused.value.reason == "queue_full"
        gate.set()
        await asyncio.gather(*tasks)
        await asyncio.to_thread(until, lambda: not threads._open)
        threads.check_room()

    asyncio.run(main())


def test_a_fault_reaches_who_waits() -> None:
    """An exception of the work is raised in the task, and the next piece of work begins."""

    async def main() -> None:
        threads = ClientThreads(1)
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)
        assert await threads.run(lambda: 1) == 1

    asyncio.run(main())


def test_turns_mean_nothing_elsewhere() -> None:
    """Outside of these threads work goes on without turns."""
    take_turns()
    assert issubclass(NobodyWaitsError, Exception)
