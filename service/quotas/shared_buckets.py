"""Token buckets that all replicas share: as in ``buckets``, but kept in Redis."""

import asyncio
import math
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from guards.errors import Mistake
from service.quotas.buckets import Buckets, Rate

__all__ = ["MALFORMED", "SharedBuckets", "connect"]

MALFORMED = "GUARDHOUSE_REDIS_URL: not the URL of a Redis; write it as redis://:PASSWORD@HOST:6379/0"
"""The refusal of a malformed URL. It does not quote the URL, which may hold a password."""
SECONDS = 0.1
"""How long Redis may take to answer: a quick answer matters more to a client than an exact count."""
REST_SECONDS = 1.0
"""After Redis did not answer, it is not asked again for this long."""
BUCKET = """
local rate, burst, taken, charge = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or burst, tonumber(bucket[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local needed = math.min(taken, burst)
local granted = charge or tokens >= needed
if granted then tokens = math.min(burst, tokens - taken) end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / rate * 1000) + 1)
return granted and '0' or string.format('%.6f', (needed - tokens) / rate)
"""


class SharedBuckets:
    """Buckets of all replicas that share a Redis.

    A bucket that is full again is deleted, so Redis holds only keys that were used recently. While Redis does not
    answer, each replica counts with its own :class:`Buckets`, and calls ``on_loss`` once for each such request.
    """

    def __init__(self, redis: Redis, name: str, *, on_loss: Callable[[], None]) -> None:
        """Keep the buckets of the model ``name``."""
        self._redis, self._prefix = redis, f"guardhouse:{name}:"
        self._bucket = redis.register_script(BUCKET)
        self._alone, self._on_loss = Buckets(), on_loss
        self._rest_until = -math.inf

    async def take(self, key: str, rate: Rate, amount: float = 1.0, *, charge: bool = False) -> float:
        """Take tokens; see :meth:`service.quotas.buckets.Buckets.take`."""
        now = asyncio.get_running_loop().time()
        if now >= self._rest_until:
            try:
                async with asyncio.timeout(SECONDS):
                    arguments = [*rate, amount, int(charge)]
                    return float(await self._bucket(keys=[self._prefix + key], args=arguments))
            except (RedisError, OSError, TimeoutError):
                self._rest_until = now + REST_SECONDS
        self._on_loss()
        return self._alone.take(key, rate, amount, charge=charge)

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
        raise Mistake(MALFORMED) from None
    else:
        return redis
