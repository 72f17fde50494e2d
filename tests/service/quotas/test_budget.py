"""A principal's budget in one front: what it asks for, what it refuses, and what it holds."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages.refused import Refused
from service.quotas.buckets import Buckets, Rate
from service.quotas.budget import Budget
from service.quotas.quota import Quotas


class Keeper:
    """A keeper of buckets whose clock stands still."""

    def __init__(self) -> None:
        self.buckets, self.asked = Buckets(), 0

    async def take(self, key: str, rate: Rate, amount: float) -> float:
        """Take tokens."""
        self.asked += 1
        return self.buckets.take(key, rate, amount, now=0.0)


async def _never(*_: object) -> float:
    return 7.0


def spent(budget: Budget, kind: Any, amounts: list[float]) -> list[bool]:
    """Spend amounts one after another; say which of them were granted."""

    async def main() -> list[bool]:
        granted = []
        for amount in amounts:
            try:
                await budget.spend(kind, amount)
            except Refused:
                granted.append(False)
            else:
                granted.append(True)
        return granted

    return asyncio.run(main())


def test_a_quota_comes_back_after_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused is asked for again once its wait is over, and not before; less may be asked for at once."""
    now, waits = [100.0], [5.0, 5.0, 0.0, 0.0, 0.0]
    monkeypatch.setattr("service.quotas.budget.time.monotonic", lambda: now[0])

    async def ask(*_: object) -> float:
        return waits.pop(0)

    budget = Budget("shop", Quotas(feedback_rows_per_day=10), ask)
    assert spent(budget, "feedback_rows", [8, 8, 9]) == [False] * 3
    assert spent(budget, "feedback_rows", [7]) == [False]
    now[0] += 6
    assert spent(budget, "feedback_rows", [9, 8]) == [True, True]
    assert len(waits) == 1


def test_requests_beyond_the_burst_are_refused() -> None:
    """Twice the rate a second may come at once; most requests need no question to the keeper."""
    keeper = Keeper()
    budget = Budget("shop", Quotas(requests_per_second=100), keeper.take)
    with pytest.raises(Refused) as refused:
        asyncio.run(Budget("shop", Quotas(rows_per_second=1), _never).spend("rows"))
    assert (refused.value.reason, refused.value.retry_after) == ("quota", 7)
    assert spent(budget, "requests", [1] * 250) == [True] * 200 + [False] * 50
    assert keeper.asked < 30


def test_what_is_not_bounded_costs_no_question() -> None:
    """A principal without a quota of a kind may use as much as it likes."""
    keeper = Keeper()
    budget = Budget("shop", Quotas(requests_per_second=1), keeper.take)
    assert spent(budget, "rows", [1e9] * 3) == [True] * 3
    assert keeper.asked == 0


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 3))
def test_fronts_together_never_grant_more_than_the_burst(amounts: list[int], fronts: int) -> None:
    """However requests are spread over fronts, what is granted is at most a burst, and one request beyond."""
    keeper = Keeper()
    budgets = [Budget("shop", Quotas(rows_per_second=50), keeper.take) for _ in range(fronts)]
    granted = 0
    for number, amount in enumerate(amounts):
        granted += amount * spent(budgets[number % fronts], "rows", [amount])[0]
    assert granted <= 100


def test_bodies_of_one_principal_are_bounded_together() -> None:
    """Bytes that are held count until they are released, and a refused body holds what it held before."""
    budget = Budget("shop", Quotas(body_bytes=1000), Keeper().take)
    first = budget.hold(0, 600)
    with pytest.raises(Refused, match="1000 bytes"):
        budget.hold(0, 401)
    second = budget.hold(0, 400)
    first = budget.hold(first, 0)
    assert budget.hold(second, 1000) == 1000
    assert first == 0


class Open:
    """A connection that is open until it is closed."""

    def __init__(self) -> None:
        self.closed = False

    def is_over(self) -> bool:
        """Say whether the connection is closed."""
        return self.closed


def test_closed_connections_make_room() -> None:
    """A principal may have so many open connections; one of them may send any number of requests."""
    budget = Budget("shop", Quotas(connections=2), Keeper().take)
    first, second, third = Open(), Open(), Open()
    for connection in (first, second, first, second):
        budget.use(connection)
    with pytest.raises(Refused, match="may have 2 connections"):
        budget.use(third)
    first.closed = True
    budget.use(third)
    with pytest.raises(Refused):
        budget.use(Open())
