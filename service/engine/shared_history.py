"""What guards with memory remember, in a Redis that all replicas share."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from redis import Redis
from redis.exceptions import RedisError

from guards.errors import Mistake
from guards.memory.base import MemoryGuard, Trace
from guards.memory.crowd import Crowd, Queries
from guards.memory.history import MOST_ENTRIES, LocalHistory
from service.quotas.shared_buckets import MALFORMED

__all__ = ["SharedHistory", "connect_blocking"]

LOG = logging.getLogger("guardhouse")
SECONDS = 0.05
"""How long Redis may take to answer: the device's thread waits for the answer."""
REST_SECONDS = 5.0
"""After Redis did not answer, it is not asked again for this long."""
AT_ONCE = 512
"""How many queries of other replicas are read at once, at most: more are read the next time."""
KEPT_SECONDS = 86400
"""How long Redis keeps the queries of a client that asks nothing."""


class SharedHistory:
    """The traces of a guard's clients, which every replica reads and extends. Used by one thread.

    A client's trace is a Redis list of fixed-size records: code, digest, and the state after the query. The queries of
    all clients are a Redis stream, of which each replica reads what is new. While Redis does not answer, this replica
    judges by what it has seen itself, and calls ``on_loss`` for each lost question. The trace of a client that asked
    meanwhile replaces the client's trace in Redis at the client's next query: an outage of Redis lets no attacker begin
    anew.
    """

    def __init__(self, guard: MemoryGuard, *, redis: Redis, prefix: str, on_loss: Callable[[], None]) -> None:
        """Keep the traces under keys that begin with ``prefix`` and the guard's name; no key shows a client's name."""
        self._redis, self._prefix, self._on_loss = redis, f"guardhouse:{prefix}:{guard.name}:", on_loss
        self._own, self._window = LocalHistory(guard), guard.params.window
        self._record = np.dtype([
            ("code", np.float32, (guard.width,)), ("digest", np.uint64), ("state", np.float64, (guard.state_size,)),
        ])  # fmt: skip
        self._told = np.dtype([
            ("code", np.float32, (guard.width,)), ("digest", np.uint64), ("owner", np.uint64), ("evidence", np.float64),
        ])  # fmt: skip
        self._stream, self._size, self._last = self._prefix + "all", guard.crowd_size, b"0"
        self._rest_until = 0.0
        self._ahead = set[str]()
        """The clients whose last queries this replica remembers and Redis does not."""

    @property
    def crowd(self) -> Crowd:
        """The last queries of all clients, as they were at the last ``read``."""
        return self._own.crowd

    @property
    def entries(self) -> int:
        """How many queries this replica has seen itself and remembers."""
        return self._own.entries

    def read(self, clients: Sequence[str]) -> Mapping[str, Trace]:
        """Give the trace of each client; the trace of an unknown client is empty."""
        own = self._own.read(clients)
        if not self._asks():
            return own
        try:
            asked = self._redis.pipeline(transaction=False)
            for client in clients:
                asked.lrange(self._key(client), -self._window, -1)
            if self._size:
                asked.xread({self._stream: self._last}, count=AT_ONCE)
            found = asked.execute()
        except (RedisError, OSError):
            self._lose()
            return own
        if self._size:
            self._read_crowd(found.pop())
        self._find()
        known = {client: self._trace(records) for client, records in zip(clients, found, strict=True)}
        return {client: own[client] if client in self._ahead else known[client] or own[client] for client in clients}

    def write(
        self, client: str, codes: npt.NDArray[np.float32], digests: Sequence[int], state: npt.NDArray[np.float64]
    ) -> None:
        """Remember a client's next queries (m, w), in order, and the state after them."""
        self._own.write(client, codes, digests, state)
        if not self._asks():
            self._get_ahead(client)
            return
        key, told = self._key(client), self._redis.pipeline(transaction=False)
        if client in self._ahead:
            trace = self._own.read([client])[client]
            codes, digests = trace.codes, trace.digests
            told.delete(key)
        records = np.zeros(len(codes), self._record)
        records["code"], records["digest"], records["state"] = codes, digests, state
        try:
            told.rpush(key, *(record.tobytes() for record in records))
            told.ltrim(key, -self._window, -1)
            told.expire(key, KEPT_SECONDS)
            told.execute()
        except (RedisError, OSError):
            self._lose()
            self._get_ahead(client)
        else:
            self._find()
            self._ahead.discard(client)

    def write_crowd(self, queries: Queries) -> None:
        """Remember queries of all clients, in order."""
        self._own.write_crowd(queries)
        if not self._asks():
            return
        records = np.zeros(len(queries), self._told)
        records["code"], records["digest"] = queries.codes, queries.digests
        records["owner"], records["evidence"] = queries.owners, queries.evidence
        try:
            told = self._redis.pipeline(transaction=False)
            for record in records:
                told.xadd(self._stream, {"query": record.tobytes()}, maxlen=self._size, approximate=True)
            told.expire(self._stream, KEPT_SECONDS)
            told.execute()
        except (RedisError, OSError):
            self._lose()

    def _read_crowd(
        self, streams: Sequence[tuple[bytes, Sequence[tuple[bytes, Mapping[bytes, bytes]]]]] | None
    ) -> None:
        """Hold what all replicas told since the last time; this replica's own queries are held already."""
        for _, entries in streams or ():
            self._last = entries[-1][0]
            told = [fields.get(b"query", b"") for _, fields in entries]
            records = [record for record in told if len(record) == self._told.itemsize]
            found = np.frombuffer(b"".join(records), self._told)
            digests = found["digest"].tolist()
            self._own.write_crowd(Queries(found["code"], digests, found["owner"], found["evidence"]))

    def _trace(self, records: Sequence[bytes]) -> Trace | None:
        size = self._record.itemsize
        if not records or any(len(record) != size for record in records):
            return None
        found = np.frombuffer(b"".join(records), self._record)
        digests = tuple(found["digest"].tolist())
        return Trace(np.ascontiguousarray(found["code"]), digests, found["state"][-1].astype(np.float64))

    def _key(self, client: str) -> str:
        return self._prefix + blake2b(client.encode(), digest_size=16).hexdigest()

    def _asks(self) -> bool:
        if time.monotonic() >= self._rest_until:
            return True
        self._on_loss()
        return False

    def _get_ahead(self, client: str) -> None:
        if len(self._ahead) < MOST_ENTRIES:
            self._ahead.add(client)

    def _find(self) -> None:
        if self._rest_until:
            LOG.warning("Redis answers again: guards with memory judge by the queries of all replicas")
            self._rest_until = 0.0

    def _lose(self) -> None:
        if not self._rest_until:
            LOG.warning("Redis does not answer: guards with memory judge by the queries of this replica alone")
        self._rest_until = time.monotonic() + REST_SECONDS
        self._on_loss()


def connect_blocking(url: str) -> Redis:
    """Make a client of Redis for a thread that waits for it; the client connects when it is first used.

    Raises:
        Mistake: the URL is malformed; the message does not quote it, since it may hold a password.
    """
    try:
        return Redis.from_url(url, socket_connect_timeout=SECONDS, socket_timeout=SECONDS)
    except (TypeError, ValueError, RedisError):
        raise Mistake(MALFORMED) from None
