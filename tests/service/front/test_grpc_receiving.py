"""Which gRPC calls receive their messages now."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any

import grpc
import pytest

from service.front import grpc_receiving
from service.front.grpc_receiving import QUICK_PLACES, ReceivingPlaces, Reception
from service.front.memory_room import RECEIVING_PLACES
from service.front.protocols.problem import Problem
from service.messages.refused import Refused


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def main() -> None:
            await test(*arguments, **named)

        asyncio.run(main())

    return run


class Call:
    """A call of gRPC whose message comes when the test says so."""

    def __init__(self, peer: str) -> None:
        self._peer, self.reads = peer, False
        self.message: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def peer(self) -> str:
        return self._peer

    async def read(self) -> Any:
        self.reads = True
        return await self.message


class Calls:
    """Calls that want to receive."""

    def __init__(self, places: ReceivingPlaces) -> None:
        self._places = places
        self.tasks: list[asyncio.Task[bytes]] = []

    async def call(self, peer: str) -> Call:
        """Make a call, which receives if there is a place."""
        call = Call(peer)
        self.tasks.append(asyncio.create_task(self._places.receive(call, peer)))
        await settled()
        return call


async def settled() -> None:
    """Let every task go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def calls(places: int) -> AsyncIterator[Calls]:
    """Give calls that share so many places, and end those that still wait."""
    made = Calls(ReceivingPlaces(places))
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


@in_loop
async def test_a_few_calls_receive_at_a_time() -> None:
    """A call without a place does not read; it reads once another has received its message."""
    async with calls(2) as each:
        first, second, third = [await each.call(peer) for peer in "abc"]
        assert (first.reads, second.reads, third.reads) == (True, True, False)
        first.message.set_result(b"1")
        await settled()
        assert third.reads
        assert await each.tasks[0] == b"1"


@in_loop
async def test_no_connection_has_all_places() -> None:
    """The last place is never given to a connection that has all the others."""
    async with calls(3) as each:
        mine = [await each.call("greedy") for _ in range(5)]
        assert [call.reads for call in mine] == [True, True, False, False, False]
        assert (await each.call("other")).reads


@in_loop
async def test_connections_take_turns() -> None:
    """A connection with many waiting calls delays the call of another connection by one message."""
    async with calls(1) as each:
        first = await each.call("greedy")
        more = [await each.call("greedy") for _ in range(5)]
        other = await each.call("other")
        first.message.set_result(b"")
        await settled()
        assert more[0].reads
        more[0].message.set_result(b"")
        await settled()
        assert other.reads
        assert not more[1].reads


@in_loop
async def test_a_waiting_call_may_leave() -> None:
    """A call that is cancelled while it waits gets no place, and holds up nobody."""
    async with calls(1) as each:
        first, second, third = [await each.call(peer) for peer in "abc"]
        each.tasks[1].cancel()
        await settled()
        first.message.set_result(b"")
        await settled()
        assert (second.reads, third.reads) == (False, True)


@in_loop
async def test_a_call_may_leave_as_a_place_becomes_free() -> None:
    """A place that becomes free in the moment in which the next call is cancelled goes to the call after that."""
    async with calls(1) as each:
        first, second, third = [await each.call(peer) for peer in "abc"]
        first.message.set_result(b"")
        each.tasks[1].cancel()
        await settled()
        assert (second.reads, third.reads) == (False, True)


@in_loop
async def test_who_leaves_while_it_receives_gives_its_place_back() -> None:
    """A call that is cancelled while it receives is cancelled, and the next call receives."""
    async with calls(1) as each:
        await each.call("a")
        second = await each.call("b")
        each.tasks[0].cancel()
        await settled()
        assert each.tasks[0].cancelled()
        assert second.reads


@in_loop
async def test_slow_messages_end_while_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call keeps its place as long as nobody waits; if another call waits, a slow call is refused after a while."""
    monkeypatch.setattr(grpc_receiving, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(grpc_receiving, "LOOK_SECONDS", 0.01)
    async with calls(1) as each:
        await each.call("slow")
        await asyncio.sleep(0.3)
        assert not each.tasks[0].done()
        second = await each.call("b")
        with pytest.raises(Refused) as refused:
            await each.tasks[0]
        assert refused.value.reason == "memory"
        await settled()
        assert second.reads


@in_loop
async def test_too_many_waiting_calls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound on waiting calls a call is refused at once."""
    monkeypatch.setattr(grpc_receiving, "MOST_WAITING", 2)
    async with calls(1) as each:
        for peer in "abcd":
            await each.call(peer)
        with pytest.raises(Refused):
            await each.tasks[3]
        assert not each.tasks[2].done()


@in_loop
async def test_a_call_needs_a_message() -> None:
    """A call that ends without a message is a problem."""
    async with calls(1) as each:
        call = await each.call("a")
        call.message.set_result(grpc.aio.EOF)
        with pytest.raises(Problem):
            await each.tasks[0]


async def _received(reception: Reception, peer: str, message: bytes = b"", *, probe: bool = False) -> bool:
    """Make a call, and say whether it received its message without waiting."""
    call = Call(peer)
    call.message.set_result(message)
    task = asyncio.create_task(reception.receive(call, probe=probe))
    await settled()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return call.reads


@in_loop
async def test_small_messages_do_not_wait_for_large_messages() -> None:
    """Probes, and calls of connections whose latest message was small, have places that large messages do not get."""
    reception = Reception()
    assert await _received(reception, "small")
    assert await _received(reception, "large")
    assert await _received(reception, "large", bytes(100_000))
    uploads = [Call(f"upload {number}") for number in range(RECEIVING_PLACES - QUICK_PLACES)]
    tasks = [asyncio.create_task(reception.receive(call, probe=False)) for call in uploads]
    await settled()
    assert await _received(reception, "small")
    assert await _received(reception, "new", probe=True)
    assert not await _received(reception, "new")
    assert not await _received(reception, "large")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
