"""Keeps the buckets of all callers for one server, in its engine's process; or, over all replicas, in Redis."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from service.closing import Step
from service.quotas.buckets import Buckets, Rate
from service.quotas.shared_buckets import SharedBuckets, connect

__all__ = ["TAKE", "Keeper"]

TAKE = "take_quota"
"""The name of a front's question: may a caller use so much of a quota?"""
CLOSE_SECONDS = 1.0
Handler = Callable[[dict[str, Any], bytes], Awaitable[tuple[Mapping[str, Any], bytes]]]


class Keeper:
    """The buckets of one model's callers."""

    def __init__(self, model: str, redis_url: str | None, *, on_loss: Callable[[], None]) -> None:
        """Keep the buckets in Redis if there is a URL; ``on_loss`` is called when Redis did not answer.

        Raises:
            Mistake: the URL is malformed.
        """
        self._own = Buckets()
        self._shared = None if redis_url is None else SharedBuckets(connect(redis_url), model, on_loss=on_loss)

    async def take(self, key: str, rate: Rate, amount: float = 1.0, *, charge: bool = False) -> float:
        """Take tokens; see :meth:`service.quotas.buckets.Buckets.take`."""
        if self._shared is None:
            return self._own.take(key, rate, amount, charge=charge)
        return await self._shared.take(key, rate, amount, charge=charge)

    def handlers(self) -> Mapping[str, Handler]:
        """Map the name of the fronts' question to the method that answers it."""
        return {TAKE: self._answer}

    def closing(self) -> list[Step]:
        """List what to close."""
        return [] if self._shared is None else [Step("Redis", CLOSE_SECONDS, self._shared.close)]

    async def _answer(self, head: dict[str, Any], _: bytes) -> tuple[dict[str, Any], bytes]:
        wait = await self.take(head["key"], Rate(*head["rate"]), head["amount"])
        return {"wait": wait}, b""
