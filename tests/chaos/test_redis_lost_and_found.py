"""Guards with memory that share what they remember through Redis, while Redis is killed, hung and started again."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import example_folders
import httpx
import numpy as np
import pytest
from fresh_client import FRESH
from gateways import fit_all
from redis_server import RedisServer, running_redis
from waiting import until

from service.engine.shared_history import REST_SECONDS

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

LOST, FOUND = "Redis does not answer", "Redis answers again"
ERRORS = "guardhouse_query_store_errors_total"
FLAGS = 'guardhouse_guard_flags_total{guard="queries"}'
ENOUGH = 30
"""So many near copies of a row are an attack."""


@dataclass
class Remembering:
    """A server whose guard with memory remembers in a Redis."""

    gateway: "Gateway"
    redis: RedisServer
    asked: int = 0

    def ask(self, client: str) -> httpx.Response:
        """Predict one more near copy of the same row as a client."""
        self.asked += 1
        row = example_folders.images(np.array([1]), 5)[0] / 255
        near = np.clip(row + np.random.default_rng(self.asked).normal(0, 0.02, row.shape), 0, 1)
        body = {"instances": [near.round(6).tolist()]}
        return FRESH.post(f"{self.gateway.url}/predict", json=body, headers={"X-Client": client})

    def flags(self, client: str, queries: int) -> float:
        """Let a client ask; each query must be answered. Give how many of the queries were flagged."""
        before = self.gateway.metrics()[FLAGS]
        assert {self.ask(client).status_code for _ in range(queries)} == {200}
        return self.gateway.metrics()[FLAGS] - before

    @property
    def errors(self) -> float:
        """How many questions Redis did not answer."""
        return self.gateway.metrics()[ERRORS]

    def wait_for_redis(self) -> None:
        """Ask until Redis is asked again, and answers."""

        def answered() -> bool:
            before = self.errors
            assert self.ask("somebody").status_code == 200
            return self.errors == before

        until(answered, pause=0.2)


@pytest.fixture(scope="module")
def remembering(bundles: "Bundles", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remembering]:
    """Serve a classifier with a guard with memory, beside a Redis."""
    server: dict[str, Any] = {**example_folders.IMAGE_CONFIG["server"], "client_header": "X-Client"}
    guard = {"name": "queries", "kind": "query_similarity"}
    config = example_folders.write_images(bundles.folder / "remembering", memory_guards=[guard], server=server)
    folder: Path = tmp_path_factory.mktemp("redis")
    with running_redis(folder) as redis:
        fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
        gateway = bundles.serve("remembering", GUARDHOUSE_REDIS_URL=redis.url).wait_ready()
        gateway.expected += [LOST, FOUND, "look like an attack"]
        yield Remembering(gateway, redis)
        gateway.stop()


def test_a_lost_redis_stops_no_prediction_and_forgets_no_attacker(remembering: Remembering) -> None:
    """Redis is killed under an attack: every query is answered and flagged, losses are counted, the log says so once.

    When Redis is back, empty, it is told what it missed, and the attack stays flagged.
    """
    remembering.wait_for_redis()
    said = remembering.gateway.log().count(LOST)
    assert remembering.flags("attacker", ENOUGH) > 0
    errors = remembering.errors
    remembering.redis.kill()
    assert remembering.flags("attacker", 10) == 10
    assert remembering.flags("newcomer", ENOUGH) > 0
    assert remembering.errors == errors + 3 * (10 + ENOUGH)  # a read and two writes for each query
    assert remembering.gateway.log().count(LOST) == said + 1
    remembering.redis.start()
    remembering.wait_for_redis()
    errors = remembering.errors
    for attacker in ("attacker", "newcomer"):
        assert remembering.flags(attacker, 20) == 20
    assert remembering.errors == errors
    assert remembering.gateway.log().count(FOUND) >= 1


def test_a_hung_redis_costs_one_batch_a_short_wait(remembering: Remembering) -> None:
    """While Redis does not answer, all predictions are answered, and only one of them waits for Redis."""
    remembering.wait_for_redis()
    began, errors = time.monotonic(), remembering.errors
    remembering.redis.process.send_signal(signal.SIGSTOP)
    try:
        answers = [remembering.ask("patient") for _ in range(10)]
        asked_once = time.monotonic() - began < REST_SECONDS
    finally:
        remembering.redis.process.send_signal(signal.SIGCONT)
    assert {answer.status_code for answer in answers} == {200}
    assert remembering.errors >= errors + 20
    lost, found = (remembering.gateway.log().count(line) for line in (LOST, FOUND))
    assert not asked_once or lost == found + 1
    remembering.wait_for_redis()
