"""Deadlines of many tasks behind one timer: each task ends at its own time, and for no other reason."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from service.front.deadlines import Deadlines

LOOPS = pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
Loop = Callable[[], asyncio.AbstractEventLoop]
CLOCK = 0.002
"""The clock of uvloop's loop has milliseconds."""


async def _work(deadlines: Deadlines, seconds: float, takes: float) -> tuple[str, float]:
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        with deadlines.until(started + seconds):
            await asyncio.sleep(takes)
    except TimeoutError:
        return "late", loop.time() - started
    return "done", loop.time() - started


@LOOPS
def test_each_task_has_its_own_deadline(factory: Loop) -> None:
    """Earlier and later deadlines, set in any order, end their own tasks, not before their time."""

    async def main() -> None:
        deadlines = Deadlines()
        asked = [(90.0, 0.01), (0.2, 90.0), (0.1, 90.0), (90.0, 0.3), (0.15, 0.0), (-1.0, 90.0), (0.1, 90.0)]
        found = await asyncio.gather(*[_work(deadlines, *each) for each in asked])
        assert [word for word, _ in found] == ["done", "late", "late", "done", "done", "late", "late"]
        late = [(seconds, spent) for (seconds, _), (word, spent) in zip(asked, found, strict=True) if word == "late"]
        assert all(spent >= seconds - CLOCK for seconds, spent in late)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(main(), 60))


@LOOPS
def test_a_cancelled_task_is_not_late(factory: Loop) -> None:
    """A task that somebody else cancels stays cancelled, also if its time is up at the same moment."""

    async def main() -> None:
        deadlines = Deadlines()
        task = asyncio.create_task(_work(deadlines, 90.0, 90.0))
        both = asyncio.create_task(_work(deadlines, 0.05, 90.0))
        await asyncio.sleep(0)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, both.cancel)
        found = await asyncio.gather(task, both, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert isinstance(found[1], asyncio.CancelledError) or found[1][0] == "late"

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(main(), 60))


def test_a_task_goes_on_after_a_deadline() -> None:
    """A task that was late can wait again: no cancellation is left over."""

    async def main() -> None:
        deadlines = Deadlines()
        assert (await _work(deadlines, 0.01, 90.0))[0] == "late"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0.01)
        assert (await _work(deadlines, 0.01, 90.0))[0] == "late"

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_thousand_requests_set_one_timer() -> None:
    """Requests that end in time cost no timer of their own."""

    async def main() -> int:
        loop, deadlines, timers = asyncio.get_running_loop(), Deadlines(), 0
        real = loop.call_at

        def call_at(*args: object, **kwargs: object) -> asyncio.TimerHandle:
            nonlocal timers
            timers += 1
            return real(*args, **kwargs)  # type: ignore[arg-type]

        loop.call_at = call_at  # type: ignore[method-assign, assignment]
        for _ in range(1000):
            with deadlines.until(loop.time() + 30):
                await asyncio.sleep(0)
        return timers

    assert asyncio.run(main()) == 1


def test_only_a_task_has_deadlines() -> None:
    """Outside of a task there is nothing to cancel, and the mistake is named."""

    async def main() -> str:
        deadlines = Deadlines()
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def callback() -> None:
            try:
                with deadlines.until(0.0):
                    said.set_result("no error")
            except RuntimeError as wrong:
                said.set_result(str(wrong))

        asyncio.get_running_loop().call_soon(callback)
        return await said

    assert asyncio.run(main()) == "only a task has deadlines"
