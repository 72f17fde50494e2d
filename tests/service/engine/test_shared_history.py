"""What guards with memory remember in Redis: replicas see a client's queries together, and losing it stops nobody."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from redis_server import RedisServer, running_redis

from guards.errors import Mistake
from guards.memory.base import MemoryGuard, MemoryGuardParams, Step, Trace
from guards.memory.crowd import Queries
from guards.types import Batch, Reference
from service.engine import shared_history
from service.engine.shared_history import SharedHistory, connect_blocking

WINDOW = 8
EMPTY = np.zeros(2)


class LastRows(MemoryGuard):
    """Remembers two numbers of each row; its state is never asked for."""

    state_size = 2
    width = 2
    crowd_size = 4

    class Params(MemoryGuardParams):
        kind: Literal["last_rows"] = "last_rows"

    def fit(self, reference: Reference) -> "LastRows":
        raise NotImplementedError

    def calibrate(self, clean: Batch) -> "LastRows":
        raise NotImplementedError

    def encode(self, batch: Batch) -> torch.Tensor:
        raise NotImplementedError

    def step(self, code: object, trace: Trace) -> Step:
        raise NotImplementedError

    def evidence(self, state: object) -> float:
        raise NotImplementedError


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def losses() -> list[None]:
    return []


@pytest.fixture
def replica(
    redis: RedisServer, losses: list[None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], SharedHistory]]:
    """Make the history of one more replica."""
    monkeypatch.setattr(shared_history, "SECONDS", 60.0)
    guard = LastRows(LastRows.Params(name="rows", window=WINDOW))

    def lose() -> None:
        losses.append(None)

    client = connect_blocking(redis.url)
    yield partial(SharedHistory, guard, redis=client, prefix="model:bundle", on_loss=lose)
    client.close()


def codes(*first: float) -> np.ndarray:
    return np.array([[value, -value] for value in first], np.float32)


def test_replicas_see_one_clients_queries_together(replica: Callable[[], SharedHistory]) -> None:
    """A trace that one replica extends is the trace that another replica reads, bit for bit, with its last state."""
    one, other = replica(), replica()
    one.write("a", codes(0.1, 0.2), [1, 2**64 - 1], np.array([0.5, -1e300]))
    other.write("a", codes(0.3), [3], np.array([7.0, 8.0]))
    for history in (one, other):
        traces = history.read(["a", "b"])
        assert traces["a"].codes.tobytes() == codes(0.1, 0.2, 0.3).tobytes()
        assert traces["a"].digests == (1, 2**64 - 1, 3)
        assert traces["a"].state.tolist() == [7.0, 8.0]
        assert len(traces["b"].codes) == 0
        assert traces["b"].state.tolist() == [0.0, 0.0]


def test_a_trace_keeps_a_window(replica: Callable[[], SharedHistory]) -> None:
    """Redis keeps as many queries of a client as the guard's window has, and forgets a client that asks nothing."""
    history = replica()
    for number in range(3):
        history.write("a", codes(*range(5 * number, 5 * number + 5)), list(range(5)), EMPTY)
    assert replica().read(["a"])["a"].codes[:, 0].tolist() == list(range(15 - WINDOW, 15))
    (key,) = history._redis.keys()
    assert 0 < history._redis.ttl(key) <= shared_history.KEPT_SECONDS
    assert b"rows" in key
    assert not key.endswith(b"a")


def asked(*digests: int, client: int = 1) -> Queries:
    count = len(digests)
    return Queries(
        codes(*(digest % 1000 for digest in digests)),
        digests,
        np.full(count, client, np.uint64),
        np.array(digests) * 0.25,
    )


def test_replicas_see_the_queries_of_all_clients(replica: Callable[[], SharedHistory]) -> None:
    """What one replica tells of all clients, another replica holds after its next read, once, with the same bits."""
    one, other = replica(), replica()
    one.write_crowd(asked(1, 2))
    other.write_crowd(asked(2**64 - 1, client=2**64 - 1))
    for history in (one, other):
        history.read([])
        history.read([])
        crowd = history.crowd
        assert len(crowd) == 3
        place = crowd.place(2**64 - 1)
        assert crowd.owners[place] == 2**64 - 1
        assert crowd.evidence[crowd.place(2)] == 0.5
        assert crowd.points[crowd.place(2)].tolist() == [2.0, 4.0]


def test_the_queries_of_all_clients_are_bounded(replica: Callable[[], SharedHistory]) -> None:
    """A replica holds as many of all queries as the guard compares, and Redis keeps about as many for a day."""
    history = replica()
    for start in range(0, 1000, 10):
        history.write_crowd(asked(*range(start, start + 10)))
    assert len(history.crowd) == 4
    (key,) = history._redis.keys()
    assert history._redis.xlen(key) < 300
    assert 0 < history._redis.ttl(key) <= shared_history.KEPT_SECONDS
    late = replica()
    late.read([])
    assert sorted(late._own.crowd._places) == [996, 997, 998, 999]


def test_a_lost_redis_loses_no_query_of_its_own(
    redis: RedisServer, replica: Callable[[], SharedHistory], losses: list[None]
) -> None:
    """While Redis is gone, a replica holds the queries that it saw itself, and counts the loss."""
    history = replica()
    redis.kill()
    history.write_crowd(asked(7))
    assert history.crowd.place(7) is not None
    assert len(losses) == 1


def test_a_lost_redis_stops_nobody(
    redis: RedisServer, replica: Callable[[], SharedHistory], losses: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is gone, a replica judges by its own queries and counts each loss; then Redis is asked again."""
    monkeypatch.setattr(shared_history, "REST_SECONDS", 0.0)
    history = replica()
    history.write("a", codes(0.1), [1], EMPTY)
    redis.kill()
    history.write("a", codes(0.2), [2], EMPTY)
    assert history.read(["a"])["a"].codes[:, 0].tolist() == pytest.approx([0.1, 0.2])
    assert len(losses) == 2
    redis.start()
    history.write("a", codes(0.3), [3], EMPTY)
    assert len(losses) == 2
    assert replica().read(["a"])["a"].codes[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_an_outage_lets_no_client_begin_anew(
    redis: RedisServer, replica: Callable[[], SharedHistory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client asked while Redis did not answer counts afterwards, also if Redis comes back with older queries."""
    monkeypatch.setattr(shared_history, "REST_SECONDS", 0.0)
    history = replica()
    history.write("a", codes(0.1), [1], EMPTY)
    key = next(iter(history._redis.keys()))
    older = history._redis.lrange(key, 0, -1)
    redis.kill()
    history.write("a", codes(0.2), [2], np.array([7.0, 8.0]))
    redis.start()
    history._redis.rpush(key, *older)
    assert history.read(["a"])["a"].state.tolist() == [7.0, 8.0]
    history.write("a", codes(0.3), [3], np.array([9.0, 8.0]))
    for each in (history, replica()):
        assert each.read(["a"])["a"].digests == (1, 2, 3)
        assert each.read(["a"])["a"].state.tolist() == [9.0, 8.0]


def test_the_log_tells_of_each_outage_once(
    redis: RedisServer,
    replica: Callable[[], SharedHistory],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A line when Redis stops answering and a line when Redis answers again, for the second outage as for the first."""
    monkeypatch.setattr(shared_history, "REST_SECONDS", 0.0)
    history = replica()
    for _ in range(2):
        redis.kill()
        for _ in range(3):
            history.read(["a"])
        redis.start()
        history.read(["a"])
    said = [" ".join(record.message.split()[:3]) for record in caplog.records]
    assert said == ["Redis does not", "Redis answers again:"] * 2


def test_records_of_another_form_are_not_read(replica: Callable[[], SharedHistory]) -> None:
    """If somebody else wrote under a client's key, the replica's own queries count."""
    history = replica()
    history.write("a", codes(0.1), [1], EMPTY)
    (key,) = history._redis.keys()
    history._redis.rpush(key, b"short")
    assert history.read(["a"])["a"].digests == (1,)


def test_a_malformed_url_is_refused_unquoted() -> None:
    """The sentence about a malformed URL does not repeat the URL, which may hold a password."""
    with pytest.raises(Mistake, match="GUARDHOUSE_REDIS_URL") as refused:
        connect_blocking("nonsense://:secret@host")
    assert "secret" not in str(refused.value)
