"""Requests begin a few at a time while a front is busy."""

import asyncio
import time

from service.front.turns import AT_ONCE, LONG_ROUND_SECONDS, Turns


def test_requests_begin_at_once_while_nothing_is_busy() -> None:
    """Without load, a request waits for no round of the event loop."""
    begun: list[int] = []

    async def main() -> None:
        turns = Turns(lambda: False)
        for number in range(3 * AT_ONCE):
            turns.add(lambda number=number: begun.append(number))  # type: ignore[misc]
            assert begun[-1] == number

    asyncio.run(main())


def test_a_crowd_begins_in_rounds_and_in_order() -> None:
    """While the front is busy, a round begins so many requests, the oldest first, and later ones wait behind them."""
    begun: list[int] = []

    async def main() -> list[int]:
        turns, rounds = Turns(lambda: True), []
        for number in range(2 * AT_ONCE + 5):
            turns.add(lambda number=number: begun.append(number))  # type: ignore[misc]
        rounds.append(len(begun))
        await asyncio.sleep(0)
        turns.add(lambda: begun.append(-1))
        rounds.append(len(begun))
        await asyncio.sleep(0)
        rounds.append(len(begun))
        return rounds

    assert asyncio.run(main()) == [AT_ONCE, 2 * AT_ONCE, 2 * AT_ONCE + 6]
    assert begun == [*range(2 * AT_ONCE + 5), -1]


def test_the_line_begins_anew_after_a_quiet_round() -> None:
    """After the crowd is gone, the first requests begin at once again."""

    async def main() -> int:
        turns, begun = Turns(lambda: True), []
        for _ in range(AT_ONCE + 1):
            turns.add(lambda: begun.append(None))
        for _ in range(5):
            await asyncio.sleep(0)
        begun.clear()
        turns.add(lambda: begun.append(None))
        return len(begun)

    assert asyncio.run(main()) == 1


def test_waiting_is_measured_only_if_a_request_may_have_waited() -> None:
    """A request may have waited if others wait for their turn, or if the last round of the event loop took long."""

    async def main() -> list[bool]:
        turns, seen = Turns(lambda: True), []
        turns.add(lambda: seen.append(turns.delay))
        await asyncio.sleep(0)
        turns.add(lambda: time.sleep(2 * LONG_ROUND_SECONDS))
        turns.add(lambda: seen.append(turns.delay))
        await asyncio.sleep(0)
        turns.add(lambda: seen.append(turns.delay))
        for _ in range(AT_ONCE + 1):
            turns.add(lambda: None)
        seen.append(turns.delay)
        return seen

    assert asyncio.run(main()) == [False, False, True, True]
