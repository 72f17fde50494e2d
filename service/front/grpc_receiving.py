"""Which gRPC calls receive their messages now.

gRPC reads a message only when its call asks for it. Until then HTTP/2's flow control leaves all but the stream's
window, 64 KiB, with the client. So a few calls at a time receive, and the others wait with little in memory.
"""

import asyncio
from collections import OrderedDict, deque
from http import HTTPStatus
from typing import Any

import grpc

from service.front.memory_room import RECEIVING_PLACES
from service.front.protocols.problem import Problem
from service.messages.refused import Refused

__all__ = ["ReceivingPlaces", "Reception"]

QUICK_PLACES = RECEIVING_PLACES - 2
SMALL_MESSAGE, MOST_KNOWN = 65_536, 4096

MOST_WAITING = 1024
"""The most calls that wait for a place. More calls are refused, since each holds a window's bytes."""
PATIENCE_SECONDS, LOOK_SECONDS = 4.0, 0.05
"""How long a call may wait because others receive slowly, and how often that is looked at."""
FULL = "too many messages arrive at once; send the call again in a moment"
SLOW = "the message arrives slowly while others wait; send the call again in a moment"


class Receiving:
    """A call that has a place since ``began``, in seconds of the event loop's clock."""

    __slots__ = ("began", "ended", "peer", "task")

    def __init__(self, peer: str, began: float) -> None:
        self.peer, self.began, self.ended = peer, began, False
        self.task = asyncio.current_task()


class Reception:
    """Receives the messages of all calls. Calls whose message is probably small do not wait for large messages."""

    def __init__(self) -> None:
        self._quick, self._others = ReceivingPlaces(QUICK_PLACES), ReceivingPlaces(RECEIVING_PLACES - QUICK_PLACES)
        self._small: OrderedDict[str, None] = OrderedDict()
        """The connections whose latest message was small, the one that was heard of longest ago first."""

    async def receive(self, context: Any, *, probe: bool) -> bytes:  # noqa: ANN401 - gRPC's context
        """Receive the message of a call. The message is probably small if the call is a probe or the latest was.

        Raises:
            Problem: 400, the call ends without a message.
            Refused: too many calls wait, or the message came slowly while others waited.
        """
        peer = context.peer()
        body = await (self._quick if probe or peer in self._small else self._others).receive(context, peer)
        if len(body) > SMALL_MESSAGE:
            self._small.pop(peer, None)
        elif not probe:
            self._small[peer] = None
            self._small.move_to_end(peer)
            if len(self._small) > MOST_KNOWN:
                self._small.popitem(last=False)
        return body


class ReceivingPlaces:
    """A few places for calls that receive. Connections take turns, and no connection has all places."""

    def __init__(self, places: int) -> None:
        """Let so many calls receive at a time, and a connection one fewer."""
        self._places, self._free, self._most = places, places, max(1, places - 1)
        self._held: dict[str, int] = {}
        """How many places each connection has."""
        self._receiving: dict[Receiving, None] = {}
        """The calls that have a place, the longest first."""
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._since: dict[asyncio.Future[None], float] = {}
        """When each waiting call began to wait, the longest first."""
        self._timer: asyncio.TimerHandle | None = None

    async def receive(self, context: Any, peer: str) -> bytes:  # noqa: ANN401 - gRPC's context
        """Receive the message of a call of the connection ``peer``.

        Raises:
            Problem: 400, the call ends without a message.
            Refused: too many calls wait, or the message came slowly while others waited.
        """
        if not self._free or self._held.get(peer, 0) >= self._most:
            await self._wait(peer)
        else:
            self._take(peer)
        call = Receiving(peer, asyncio.get_running_loop().time())
        self._receiving[call] = None
        try:
            body = await context.read()
        except asyncio.CancelledError:
            if not call.ended or call.task is None:
                raise
            call.task.uncancel()
            raise Refused("memory", SLOW) from None
        finally:
            del self._receiving[call]
            self._give(peer)
        if body is grpc.aio.EOF:
            raise Problem(HTTPStatus.BAD_REQUEST, "the call has no message")
        return body  # type: ignore[no-any-return]

    def _take(self, peer: str) -> None:
        self._free -= 1
        self._held[peer] = self._held.get(peer, 0) + 1

    def _give(self, peer: str) -> None:
        self._free += 1
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]
        self._pass_on()

    async def _wait(self, peer: str) -> None:
        if len(self._since) >= MOST_WAITING:
            raise Refused("memory", FULL)
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        self._waiting.setdefault(peer, deque()).append(place)
        self._since[place] = loop.time()
        self._watch()
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._leave(peer, place)
            else:  # the place came at the same moment
                self._give(peer)
            raise

    def _leave(self, peer: str, place: asyncio.Future[None]) -> None:
        """Take a call out of the queue."""
        waiting = self._waiting[peer]
        waiting.remove(place)
        del self._since[place]
        if not waiting:
            del self._waiting[peer]

    def _pass_on(self) -> None:
        """Give a free place to a waiting call: one connection after the other."""
        for peer, waiting in self._waiting.items():
            # The place of a call that was cancelled a moment ago is still in the queue.
            place = next((each for each in waiting if not each.done()), None)
            if place is not None and self._held.get(peer, 0) < self._most:
                self._waiting.move_to_end(peer)
                self._leave(peer, place)
                self._take(peer)
                place.set_result(None)
                return

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._end_slow)

    def _end_slow(self) -> None:
        """While calls wait, end calls that have had their place for too long.

        The more calls wait, and the longer the first has waited, the shorter a call may keep its place.
        """
        self._timer = None
        if not self._since:
            return
        now = asyncio.get_running_loop().time()
        left = PATIENCE_SECONDS - (now - next(iter(self._since.values())))
        share = PATIENCE_SECONDS / max(1, len(self._since) / self._places)
        limit = now - max(LOOK_SECONDS, min(share, left))
        for call in [each for each in self._receiving if each.began <= limit and not each.ended]:
            call.ended = True
            if call.task is not None:
                call.task.cancel()
        self._watch()
