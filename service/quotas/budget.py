"""What one principal may still use, as a front knows it."""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from service.messages.refused import Refused
from service.quotas.buckets import Rate
from service.quotas.quota import Kind, Quotas

__all__ = ["Ask", "Budget", "Connection"]

ADVANCE = 0.05
"""A front asks for so much of a burst in advance, so that most requests need no question."""
IN_ADVANCE: frozenset[Kind] = frozenset({"requests", "rows"})
SENTENCES: dict[Kind, str] = {
    "requests": "this key has used up its requests; come again later",
    "rows": "this key has used up its rows; come again later",
    "feedback_rows": "this key has used up its outcomes for the day; come again later",
    "stored_bytes": "this key has used up the bytes that the store keeps for it in a day; come again later",
    "explain_seconds": "this key has used up its seconds of explanation; come again later",
}
Ask = Callable[[str, Rate, float], Awaitable[float]]
"""Asks the server's keeper for tokens: the bucket's key, its rate, how many. Gives 0, or the seconds to wait."""


class Connection(Protocol):
    """What :class:`Budget` needs of a connection."""

    def is_over(self) -> bool:
        """Return whether the connection counts no more, for example because it is closed."""


class Budget:
    """The budget of one principal in one front; used by the event loop alone."""

    def __init__(self, name: str, quotas: Quotas, ask: Ask) -> None:
        self._name, self.quotas, self._ask = name, quotas, ask
        self._rates: dict[Kind, Rate] = {kind: rate for kind in SENTENCES if (rate := quotas.rate(kind)) is not None}
        self._advance: dict[Kind, float] = {}
        self._refused: dict[Kind, tuple[float, float]] = {}
        """The least amount that was refused last, and until when it stays refused."""
        self._connections: set[Connection] = set()
        self._body_bytes = 0

    async def spend(self, kind: Kind, amount: float = 1.0) -> None:
        """Use a part of a quota.

        Raises:
            Refused: the quota is used up.
        """
        rate = self._rates.get(kind)
        if rate is None:
            return
        if (left := self._advance.get(kind, 0.0)) >= amount:
            self._advance[kind] = left - amount
            return
        least, until = self._refused.get(kind, (0.0, 0.0))
        if amount >= least and (wait := until - time.monotonic()) > 0:  # so that a flood asks the keeper nothing
            raise Refused("quota", SENTENCES[kind], retry_after=wait)
        more = max(0.0, rate.burst * ADVANCE - amount) if kind in IN_ADVANCE else 0.0
        wait = await self._ask(self.key(kind), rate, amount + more)
        if not wait:
            self._advance[kind] = self._advance.get(kind, 0.0) + more
        elif more:
            wait = await self._ask(self.key(kind), rate, amount)
        if wait:
            self._refused[kind] = (amount, time.monotonic() + wait)
            raise Refused("quota", SENTENCES[kind], retry_after=wait)

    def use(self, connection: Connection) -> None:
        """Note that a connection is this principal's.

        Raises:
            Refused: the principal has so many connections already.
        """
        most = self.quotas.connections
        if most is None or connection in self._connections:
            return
        if len(self._connections) >= most:
            self._connections = {each for each in self._connections if not each.is_over()}
        if len(self._connections) >= most:
            raise Refused("quota", f"this key may have {most} connections")
        self._connections.add(connection)

    def hold(self, held: int, wanted: int) -> int:
        """Let a request that holds ``held`` bytes of a body hold ``wanted``; return what the request holds now.

        Raises:
            Refused: the bodies of this principal would be too large together.
        """
        most = self.quotas.body_bytes
        if most is not None and wanted > held and self._body_bytes - held + wanted > most:
            raise Refused("quota", f"the bodies that are received for this key may have {most} bytes together")
        self._body_bytes += wanted - held
        return wanted

    def meter(self, kind: Kind) -> tuple[str, float, float] | None:
        """Name the bucket of a quota that is charged after its use, with the bucket's rate; None without the quota."""
        rate = self._rates.get(kind)
        return None if rate is None else (self.key(kind), *rate)

    def key(self, kind: Kind) -> str:
        """Name the bucket."""
        return f"{kind}:{self._name}"
