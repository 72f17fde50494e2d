"""The limit on predictions in flight: whom it refuses, how callers share it, and how it follows the answers."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.front.concurrency import (
    FEW,
    FIRST,
    LEAST,
    MOST_HELD,
    PATIENCE_SECONDS,
    ROWS,
    WINDOW_ANSWERS,
    WINDOW_SECONDS,
    ConcurrencyLimit,
)
from service.messages.refused import Refused
from service.messages.seat import Seat

BATCH_SECONDS = 0.004
QUICK, SLOW = 0.005, 0.2


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Give the limit a clock that the test moves."""
    clock = Clock()
    monkeypatch.setattr("service.front.concurrency.time.perf_counter", clock)
    return clock


def limit_of(connections: int = 1000) -> tuple[ConcurrencyLimit, Seat]:
    """Make a limit of a front with so many connections."""
    seat = Seat.of_no_board()
    seat.connections = connections
    return ConcurrencyLimit(lambda: BATCH_SECONDS, seat), seat


def enter(limit: ConcurrencyLimit, caller: str = "a", left: float = 30.0) -> ExitStack:
    """Take a request in; closing what is returned answers it."""
    stack = ExitStack()
    stack.enter_context(limit.enter(caller, 0.0, left))
    return stack


def answer(limit: ConcurrencyLimit, clock: Clock, seconds: float, together: int, windows: int = 1) -> None:
    """Answer requests for some windows: ``together`` at a time, each after so many seconds."""
    for _ in range(windows):
        began = clock.now
        answered = 0
        while answered < WINDOW_ANSWERS or clock.now - began <= WINDOW_SECONDS:
            with ExitStack() as stack:
                for _ in range(together):
                    stack.enter_context(limit.enter("a", clock.now, 30.0))
                clock.now += seconds
            answered += together


def fill(limit: ConcurrencyLimit, caller: str) -> list[ExitStack]:
    """Take in requests of one caller until one is refused."""
    taken: list[ExitStack] = []
    while True:
        try:
            taken.append(enter(limit, caller))
        except Refused:
            return taken


def test_requests_beyond_the_limit_are_refused_until_one_is_answered() -> None:
    """The limit counts what is being answered, and whoever leaves makes room."""
    limit, seat = limit_of()
    taken = fill(limit, "a")
    assert len(taken) == FIRST == seat.concurrency_limit
    assert limit.is_reached
    assert not limit.admits("a")
    with pytest.raises(Refused) as refused:
        enter(limit)
    assert refused.value.reason == "overload"
    taken.pop().close()
    assert limit.admits("a")


def test_a_caller_with_many_requests_leaves_the_others_their_share() -> None:
    """While one caller holds the whole limit, another may enter up to half of it, and a third up to a third."""
    limit, _ = limit_of()
    taken = {caller: fill(limit, caller) for caller in ("greedy", "second", "third")}
    assert [len(each) for each in taken.values()] == [FIRST, FIRST // 2, FIRST // 3]


def test_rows_weigh() -> None:
    """A request of many rows holds as much as its rows need, up to a bound, and gives everything back."""
    limit, _ = limit_of()
    with limit.enter("a", 0.0, 30.0) as ticket:
        assert limit.in_flight == 1
        ticket.weigh(3 * ROWS)
        assert limit.in_flight == 3
        ticket.weigh(10_000)
        assert limit.in_flight == MOST_HELD
    assert limit.in_flight == 0


def test_slow_answers_shrink_the_limit_to_its_least(clock: Clock) -> None:
    """If answers take too long, fewer requests are taken in, but never fewer than the least."""
    limit, seat = limit_of()
    for _ in range(60):
        answer(limit, clock, SLOW, max(WINDOW_ANSWERS, int(limit.limit)))
    assert limit.limit == LEAST == seat.concurrency_limit


def test_a_burst_that_passes_is_not_refused(clock: Clock) -> None:
    """Late answers shrink the limit only if they stay late for a while, however often bursts come."""
    limit, _ = limit_of()
    for _ in range(30):
        answer(limit, clock, SLOW, int(FIRST))
        clock.now += 2 * PATIENCE_SECONDS
    assert limit.limit == FIRST


def test_few_connections_are_never_refused(clock: Clock) -> None:
    """However slow the answers are, the limit stays at the number of connections that cannot overload a server."""
    limit, _ = limit_of(connections=FEW)
    for _ in range(60):
        answer(limit, clock, SLOW, int(limit.limit))
    assert limit.limit == FEW


def test_slow_answers_to_few_requests_shrink_nothing(clock: Clock) -> None:
    """If less than half of the limit is used, answers are slow for another reason, and a burst may still come."""
    limit, _ = limit_of()
    for _ in range(30):
        answer(limit, clock, SLOW, int(FIRST / 2) - 1)
    assert limit.limit == FIRST


def test_the_limit_returns_after_an_overload(clock: Clock) -> None:
    """While answers come in time, the limit goes back to its first value, so that a burst finds it there."""
    limit, _ = limit_of()
    for _ in range(60):
        answer(limit, clock, SLOW, max(WINDOW_ANSWERS, int(limit.limit)))
    for _ in range(40):
        answer(limit, clock, QUICK, WINDOW_ANSWERS)
    assert FIRST <= limit.limit <= FIRST + FIRST**0.5


def test_the_limit_grows_while_it_is_reached_and_answers_come_in_time(clock: Clock) -> None:
    """Only a limit that was reached grows."""
    limit, _ = limit_of()
    answer(limit, clock, QUICK, WINDOW_ANSWERS)
    assert limit.limit == FIRST
    answer(limit, clock, QUICK, int(FIRST))
    assert limit.limit == FIRST + FIRST**0.5


def test_batches_that_take_long_are_no_sign_of_overload(clock: Clock) -> None:
    """What counts is the time beyond two batches: a slow model alone shrinks nothing."""
    seat = Seat.of_no_board()
    seat.connections = 1000
    limit = ConcurrencyLimit(lambda: SLOW, seat)
    answer(limit, clock, 2 * SLOW, WINDOW_ANSWERS)
    assert limit.limit == FIRST


def test_time_in_the_system_counts(clock: Clock) -> None:
    """A request that waited before it was read took that long, too."""
    limit, _ = limit_of()
    for _ in range(8):
        with ExitStack() as stack:
            for _ in range(int(limit.limit)):
                stack.enter_context(limit.enter("a", clock.now - SLOW, 30.0))
        clock.now += 1.2 * WINDOW_SECONDS
    assert limit.limit < FIRST


def test_a_deadline_that_answers_usually_miss_is_refused_at_once(clock: Clock) -> None:
    """While the server is busy, a caller who would leave before its answer is refused, and a patient one is not."""
    limit, _ = limit_of(connections=FEW)
    answer(limit, clock, SLOW, WINDOW_ANSWERS, windows=2)
    taken = [enter(limit) for _ in range(int(LEAST))]
    with pytest.raises(Refused, match="the deadline cannot be met") as refused:
        enter(limit, left=SLOW / 2)
    assert refused.value.reason == "deadline"
    enter(limit, left=2 * SLOW).close()
    clock.now += 60.0
    enter(limit, left=SLOW / 2).close()  # what was measured a minute ago says nothing now
    assert len(taken) == LEAST


def test_a_request_that_fails_leaves_too() -> None:
    """An exception gives back what the request held, and its duration is not an answer's."""
    limit, _ = limit_of()
    for _ in range(2 * WINDOW_ANSWERS):
        with pytest.raises(ZeroDivisionError), limit.enter("a", -1e6, 30.0):
            raise ZeroDivisionError
    assert (limit.in_flight, limit.limit) == (0, FIRST)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3000), st.booleans()), max_size=300))
def test_the_sum_stays_bounded_whoever_comes(steps: list[tuple[str, int, bool]]) -> None:
    """Callers together never enter beyond twice the limit, and all that was held is given back."""
    limit, _ = limit_of()
    open_: list[ExitStack] = []
    for caller, rows, leaves in steps:
        if leaves and open_:
            open_.pop(0).close()
        stack = ExitStack()
        try:
            ticket = stack.enter_context(limit.enter(caller, 0.0, 30.0))
        except Refused:
            assert limit.in_flight >= limit.limit
            continue
        assert limit.in_flight <= 2 * limit.limit + max(1.0, rows / ROWS)
        ticket.weigh(min(rows, ROWS * 4))
        open_.append(stack)
    for stack in open_:
        stack.close()
    assert limit.in_flight == pytest.approx(0)
    assert limit.admits("a")
