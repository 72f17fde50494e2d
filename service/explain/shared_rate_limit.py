"""How often one client may ask all replicas together: token buckets as in ``rate_limit``, but kept in Redis."""

import asyncio
import math
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from guards.types import Mistake
from service.explain.rate_limit import Allowance, client_of

__all__ = ["SharedAllowance", "connect"]

SECONDS = 0.1
"""How long Redis may take to answer: a quick answer matters more to a client than an exact count."""
REST_SECONDS = 1.0
"""After Redis did not answer, it is not asked again for this long."""
BUCKET = """
local rate, burst, taken, clock = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or burst, tonumber(bucket[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local granted = tokens >= taken
if granted then tokens = math.min(burst, tokens - taken) end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / rate * 1000) + 1)
return granted and '0' or string.format('%.6f', (taken - tokens) / rate)
"""


class SharedAllowance:
    """``rate`` requests a minute, and ``burst`` at once, over all replicas that share a Redis.

    A bucket that is full again is deleted, so Redis holds only clients that asked recently. While Redis does not
    answer, each replica counts with its own :class:`Allowance`, and calls ``on_loss`` once for each such request.
    """

    def __init__(self, redis: Redis, name: str, rate: float, burst: int, *, on_loss: Callable[[], None]) -> None:
        self._redis, self._prefix = redis, f"guardhouse:{name}:explain:"
        self._bucket = redis.register_script(BUCKET)
        self._arguments = (rate / 60, burst)
        self._alone, self._on_loss = Allowance(rate, burst), on_loss
        self._rest_until = -math.inf

    async def wait(self, address: str) -> float:
        """Take a token of an address. Return 0 if there was a token, otherwise the seconds until the next token."""
        wait = await self._take(address, 1)
        if wait is None:
            self._on_loss()
            return self._alone.wait(address)
        return math.ceil(wait)

    async def give_back(self, address: str) -> None:
        """Put back the token of a request that was not worth one."""
        if await self._take(address, -1) is None:
            self._alone.give_back(address)

    async def _take(self, address: str, tokens: int) -> float | None:
        """Take tokens in Redis. Return the seconds until there are as many, or None if Redis does not answer."""
        now = asyncio.get_running_loop().time()
        if now < self._rest_until:
            return None
        try:
            async with asyncio.timeout(SECONDS):
                key = self._prefix + client_of(address)
                return float(await self._bucket(keys=[key], args=[*self._arguments, tokens]))
        except (RedisError, OSError, TimeoutError):
            self._rest_until = now + REST_SECONDS
            return None

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()


def connect(url: str) -> Redis:
    """Make a client of Redis; the client connects when it is first used.

    Raises:
        Mistake: the URL is malformed; the message does not quote it, since it may hold a password.
    """
    try:
        redis = Redis.from_url(url, socket_connect_timeout=SECONDS, socket_timeout=SECONDS, decode_responses=True)
        redis.connection_pool.make_connection()  # type: ignore[no-untyped-call] # only checks the options of the query
    except (TypeError, ValueError, RedisError):
        raise Mistake(
            "GUARDHOUSE_REDIS_URL: not the URL of a Redis; write it as redis://:PASSWORD@HOST:6379/0"
        ) from None
    else:
        return redis
