"""Which gRPC connections have calls under way, and what a principal's quota makes of them."""

import asyncio

import pytest

from service.front.calling_connections import CallingConnections
from service.messages.refused import Refused
from service.quotas.budget import Budget
from service.quotas.quota import Quotas


def test_a_connection_is_one_for_all_its_calls() -> None:
    """Calls of one peer at one time are one connection, which is over when the last of them has ended."""
    calling = CallingConnections()
    with calling.call("ipv4:192.0.2.1:1") as first:
        with calling.call("ipv4:192.0.2.1:1") as again, calling.call("ipv4:192.0.2.1:2") as other:
            assert again is first
            assert other is not first
        assert other.is_over()
        assert not first.is_over()
    assert first.is_over()


def test_a_call_that_fails_ends() -> None:
    """An exception or a cancellation in a call does not keep the connection."""
    calling = CallingConnections()
    for fault in (ValueError(), asyncio.CancelledError()):
        with pytest.raises(type(fault)), calling.call("ipv4:192.0.2.1:1") as connection:
            raise fault
        assert connection.is_over()


def test_a_quota_counts_connections_with_calls() -> None:
    """A principal may have so many connections with calls at one time, and any number of them one after the other."""

    async def ask(*_: object) -> float:
        return 0.0

    calling, budget = CallingConnections(), Budget("shop", Quotas(connections=2), ask)
    with calling.call("a") as a, calling.call("b") as b, calling.call("c") as c:
        for connection in (a, b, a, b):
            budget.use(connection)
        with pytest.raises(Refused, match="may have 2 connections"):
            budget.use(c)
    for number in range(100):
        with calling.call(str(number)) as connection:
            budget.use(connection)
