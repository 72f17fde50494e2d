"""Buckets of several replicas, in a real Redis that stops and comes back."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis_server import RedisServer, running_redis

from guards.types import Mistake
from service.quotas import shared_buckets
from service.quotas.buckets import Rate
from service.quotas.shared_buckets import SharedBuckets, connect


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis."""
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a client would wait."""
    monkeypatch.setattr(shared_buckets, "SECONDS", 60.0)


class Replica:
    """One replica's buckets, all of one rate."""

    def __init__(self, buckets: SharedBuckets, rate: Rate) -> None:
        self.buckets, self.rate = buckets, rate

    async def wait(self, key: str, amount: float = 1.0) -> float:
        """Take tokens; give the seconds to wait."""
        return await self.buckets.take(key, self.rate, amount)

    async def charge(self, key: str, amount: float) -> None:
        """Take tokens that were used already, or give some back."""
        await self.buckets.take(key, self.rate, amount, charge=True)


Asking = Callable[..., Awaitable[None]]


def run(url: str, replicas: int, rate: float, burst: int, ask: Asking) -> list[int]:
    """Let replicas ask, and give how often each of them answered alone."""

    async def everything() -> list[int]:
        lost = [0] * replicas

        def loss(replica: int) -> Callable[[], None]:
            def note() -> None:
                lost[replica] += 1

            return note

        each = [SharedBuckets(connect(url), "m", on_loss=loss(i)) for i in range(replicas)]
        await ask(*(Replica(one, Rate(rate / 60, burst)) for one in each))
        for one in each:
            await one.close()
        return lost

    return asyncio.run(everything())


def test_replicas_share_a_burst(redis: RedisServer) -> None:
    """Whichever replica a client asks, and however many at once, its burst is one; another client has its own."""

    async def ask(*replicas: Replica) -> None:
        waits = await asyncio.gather(*(replicas[i % 3].wait("10.0.0.1") for i in range(30)))
        assert sum(wait == 0 for wait in waits) == 5
        assert all(0 < wait <= 3600 for wait in waits if wait)
        assert await replicas[0].wait("10.0.0.2") == 0

    assert run(redis.url, 3, 1 / 60, 5, ask) == [0, 0, 0]


def test_a_token_is_given_back_to_all_replicas(redis: RedisServer) -> None:
    """What one replica gives back, a client can take at another, and never more than its burst."""

    async def ask(first: Replica, second: Replica) -> None:
        for _ in range(3):
            assert await first.wait("10.0.0.1") == 0
            await second.charge("10.0.0.1", -1)
        await first.charge("10.0.0.1", -1)
        assert [await second.wait("10.0.0.1") > 0 for _ in range(3)] == [False, False, True]
        redis.kill()
        await first.charge("10.0.0.1", -1)

    assert run(redis.url, 2, 1 / 60, 2, ask) == [1, 0]


def test_what_was_used_already_is_a_debt_at_every_replica(redis: RedisServer) -> None:
    """A charge beyond the burst makes a client wait until the debt is paid, whichever replica it asks."""

    async def ask(first: Replica, second: Replica) -> None:
        await first.charge("10.0.0.1", 12)
        assert await second.wait("10.0.0.1", 0) == pytest.approx(10, abs=5)
        assert await second.wait("10.0.0.1") == pytest.approx(11, abs=5)
        assert await second.wait("10.0.0.2", 500) == 0, "a full bucket gives more than a burst once"
        assert await first.wait("10.0.0.2") > 400

    assert run(redis.url, 2, 60, 2, ask) == [0, 0]


def test_tokens_come_back(redis: RedisServer) -> None:
    """After the seconds that were named there is a token again, and a full bucket is forgotten."""

    async def ask(first: Replica, second: Replica) -> None:
        asked = time.monotonic()
        assert await first.wait("10.0.0.1") == 0
        wait = await second.wait("10.0.0.1")
        assert 0 < wait <= 1 or time.monotonic() - asked >= 1  # this process has stalled: the token is there again
        await asyncio.sleep(1)
        assert await second.wait("10.0.0.1") == 0
        client = connect(redis.url)
        async with asyncio.timeout(60):
            while await client.keys():  # noqa: ASYNC110 - Redis does not say when
                await asyncio.sleep(0.05)
        await client.aclose()

    assert run(redis.url, 2, 60, 1, ask) == [0, 0]


def test_without_redis_each_replica_counts_alone(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis is down a burst is each replica's own and every answer is counted as a loss; then it is one again."""
    monkeypatch.setattr(shared_buckets, "REST_SECONDS", 0.0)

    async def ask(first: Replica, second: Replica) -> None:
        assert await first.wait("10.0.0.1") == 0
        redis.kill()
        assert [await one.wait("10.0.0.1") > 0 for one in (first, first, second, second)] == [False, True] * 2
        redis.start()
        assert [await one.wait("10.0.0.1") > 0 for one in (first, second)] == [False, True]

    assert run(redis.url, 2, 1 / 60, 1, ask) == [2, 2]


def test_a_redis_that_does_not_answer_costs_one_wait_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was waited for once, a silent Redis is left alone for a while."""
    monkeypatch.setattr(shared_buckets, "SECONDS", 0.05)
    monkeypatch.setattr(shared_buckets, "REST_SECONDS", 1000.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        async def ask(alone: Replica) -> None:
            assert [await alone.wait("10.0.0.1") > 0 for _ in range(3)] == [False, False, True]
            silent.setblocking(False)
            silent.accept()[0].close()
            with pytest.raises(BlockingIOError):
                silent.accept()

        assert run(f"redis://127.0.0.1:{silent.getsockname()[1]}", 1, 1 / 60, 2, ask) == [3]


@pytest.mark.parametrize("url", ["s3cret", "http://s3cret@x", "redis://:s3cret@x:port/0"])
def test_a_malformed_url_is_a_sentence_without_its_password(url: str) -> None:
    """The error names the mistake and does not quote the URL, which may hold a password."""
    with pytest.raises(Mistake, match="GUARDHOUSE_REDIS_URL: ") as mistake:
        connect(url)
    assert "s3cret" not in str(mistake.value)
