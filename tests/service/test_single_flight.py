"""Work that many callers share: how often the work runs, and what its callers may rely on."""

import asyncio
import logging

import pytest

from service.single_flight import SingleFlight


def test_a_hundred_callers_cost_two_runs() -> None:
    """Callers who come while a run goes on share the next run, and none joins the run that has begun."""
    runs, go = 0, asyncio.Event()

    async def work() -> int:
        nonlocal runs
        runs += 1
        mine = runs
        await go.wait()
        return mine

    async def main() -> list[int]:
        flight = SingleFlight(work)
        first = asyncio.create_task(flight())
        while not runs:  # noqa: ASYNC110 - the first run begins
            await asyncio.sleep(0)
        others = [asyncio.create_task(flight()) for _ in range(99)]
        await asyncio.sleep(0.01)
        go.set()
        return [await first, *[await other for other in others]]

    assert asyncio.run(main()) == [1] + [2] * 99


def test_an_answer_shows_what_happened_before_its_question() -> None:
    """Whenever a caller asks, the caller sees everything that was counted before."""
    counted = 0

    async def work() -> int:
        seen = counted
        await asyncio.sleep(0.001)
        return seen

    async def ask(flight: SingleFlight[int]) -> None:
        nonlocal counted
        for _ in range(5):
            counted += 1
            mine = counted
            assert await flight() >= mine

    async def main() -> None:
        flight = SingleFlight(work)
        await asyncio.gather(*(ask(flight) for _ in range(20)))

    asyncio.run(main())


def test_a_caller_who_asks_again_and_again_gets_a_share_of_the_time() -> None:
    """After each run there is a pause that is three times as long as the run, but not longer than half a second."""

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        began: list[float] = []
        ended: list[float] = []

        async def work() -> None:
            began.append(loop.time())
            await asyncio.sleep(0.02 if len(began) < 5 else 1.0)
            ended.append(loop.time())

        flight = SingleFlight(work)
        for _ in range(6):
            await flight()
        return min(began[place + 1] - began[place] for place in range(4)), began[5] - ended[4]

    short, after_long = asyncio.run(main())
    assert short >= 0.079
    assert after_long < 0.9


def test_who_leaves_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """If one caller gives up, the others still get the answer; an error is raised for each, and not logged besides."""

    async def fail() -> int:
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    async def main() -> list[object]:
        flight = SingleFlight(fail)
        leaving, staying, other = (asyncio.create_task(flight()) for _ in range(3))
        await asyncio.sleep(0)
        leaving.cancel()
        return list(await asyncio.gather(leaving, staying, other, return_exceptions=True))

    with caplog.at_level(logging.ERROR):
        left, *stayed = asyncio.run(main())
    assert isinstance(left, asyncio.CancelledError)
    assert all(isinstance(each, ZeroDivisionError) for each in stayed)
    assert not caplog.records
