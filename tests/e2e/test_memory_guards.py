"""A server with a guard with memory: one principal's near copies of a row are noticed, and nobody else feels it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import example_folders
import numpy as np
import numpy.typing as npt
import pytest
from fresh_client import FRESH
from gateways import fit_all
from v2_client import start
from waiting import until

from guards.memory.staircase import STEPS
from service.keys.key_file import add_key

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

QUERIES = 40
PRINCIPALS = ("honest", "attacker", "retrying", "climber", "crowd", "shopper")
SOON = 30
"""An attack is flagged within so many queries."""
BATCHES = 'guardhouse_stage_duration_seconds_count{stage="model"}'
SCOPES: Any = ["predict", "detail", "metrics"]
GUARD = {"name": "queries", "kind": "query_similarity", "on_evidence": "blur"}
Images = npt.NDArray[np.float64]


@dataclass
class Watched:
    """A server, and the keys of its principals."""

    gateway: "Gateway"
    keys: dict[str, str]

    def ask(self, who: str, rows: Images) -> list[dict[str, Any]]:
        """Predict rows in one request, with the guards' p-values."""
        body = {"instances": rows.round(6).tolist(), "parameters": {"detail": True}}
        answer = FRESH.post(f"{self.gateway.url}/predict", json=body, headers={"X-API-Key": self.keys[who]}, timeout=60)
        predictions: list[dict[str, Any]] = answer.json()["predictions"]
        return predictions

    def metric(self, name: str) -> float:
        """Read a figure of the guard."""
        return self.series(f'{name}{{guard="queries"}}')

    def series(self, beginning: str) -> float:
        """Read the sum of the series whose name and labels begin so."""
        text = FRESH.get(f"{self.gateway.url}/metrics", headers={"X-API-Key": self.keys["honest"]}, timeout=60).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(beginning))


@pytest.fixture(scope="module")
def watched(bundles: "Bundles", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Serve a classifier of images with a guard with memory to three principals."""
    config = example_folders.write_images(bundles.folder / "watched", memory_guards=[GUARD])
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    file: Path = tmp_path_factory.mktemp("watched") / "keys.yaml"
    keys = {name: add_key(file, name, SCOPES) for name in PRINCIPALS}
    gateway, _ = start(bundles, "watched", environment={"GUARDHOUSE_API_KEYS_FILE": str(file)}, smallest_count=1)
    gateway.expected += [
        f"the queries of the principal {name} look like an attack" for name in ("attacker", "climber", "crowd")
    ]
    yield Watched(gateway.wait_ready(), keys)
    gateway.stop()


def images(count: int, seed: int) -> Images:
    drawn: Images = example_folders.images(np.random.default_rng(seed).integers(0, 3, count), seed) / 255
    return drawn


def near(image: Images, count: int, seed: int) -> Images:
    noise = np.random.default_rng(seed).normal(0, 0.02, (count, *image.shape))
    return np.clip(image + noise, 0, 1)


def test_near_copies_are_noticed_blurred_and_kept_quiet(watched: Watched) -> None:
    """An attacker's probabilities become coarse with the same label; an honest principal's bits stay as they are.

    No answer shows the guard. The metric and the log do, and the log names the principal.
    """
    probe = images(1, 77)
    before = {who: watched.ask(who, probe)[0] for who in ("honest", "attacker")}
    for row in range(QUERIES):
        watched.ask("honest", images(1, 100 + row))
        watched.ask("attacker", near(probe[0], 1, row))
    after = {who: watched.ask(who, probe)[0] for who in ("honest", "attacker")}
    assert after["honest"]["probabilities"] == before["honest"]["probabilities"]
    coarse = list(after["attacker"]["probabilities"].values())
    assert after["attacker"]["label"] == before["attacker"]["label"]
    assert coarse != before["attacker"]["probabilities"]
    assert len(set(np.round(coarse, 5))) == 2
    heights = [1 / 3 + (step + 0.5) / STEPS * 2 / 3 for step in range(STEPS)]
    assert min(abs(max(coarse) - height) for height in heights) < 1e-5
    for answer in after.values():
        assert "queries" not in answer["guards"]
        assert "queries" not in answer.get("reasons", [])
    until(lambda: watched.metric("guardhouse_guard_flags_total") > 0)
    assert watched.metric("guardhouse_query_history_entries") > 2 * QUERIES
    assert "the queries of the principal attacker look like an attack" in watched.gateway.log()
    assert "principal honest" not in watched.gateway.log()


def test_retries_are_no_evidence(watched: Watched) -> None:
    """A principal that sends the same row again and again is not flagged, and neither is a request of equal rows."""
    flags = watched.metric("guardhouse_guard_flags_total")
    probe = images(1, 78)
    answers = [watched.ask("retrying", probe)[0] for _ in range(QUERIES)] + watched.ask("retrying", probe.repeat(16, 0))
    assert all(answer["probabilities"] == answers[0]["probabilities"] for answer in answers)
    assert watched.metric("guardhouse_guard_flags_total") == flags


def test_the_rows_of_one_request_are_evidence_too(watched: Watched) -> None:
    """Near copies in one long request are seen as those of many short ones."""
    flags = watched.metric("guardhouse_guard_flags_total")
    for part in range(3):
        watched.ask("attacker", near(images(1, 79)[0], 16, part))
    until(lambda: watched.metric("guardhouse_guard_flags_total") > flags)


def test_an_attack_by_hand_is_noticed_soon(watched: Watched) -> None:
    """An attacker who climbs by random steps, without any library, is flagged within 30 queries, and learns nothing."""
    rng = np.random.default_rng(0)
    best = start = images(1, 80)[0]
    label = watched.ask("climber", start[None])[0]["label"]
    lowest, flags = 2.0, watched.metric("guardhouse_guard_flags_total")
    for _ in range(SOON):
        row = np.clip(best + 0.03 * rng.choice([-1, 1], start.shape), start - 0.1, start + 0.1).clip(0, 1)
        answer = watched.ask("climber", row[None])[0]
        assert "queries" not in answer["guards"]
        assert answer["action"] != "reject"
        if answer["probabilities"][label] < lowest:
            best, lowest = row, answer["probabilities"][label]
        if watched.metric("guardhouse_guard_flags_total") > flags:
            break
    else:
        pytest.fail(f"no flag within {SOON} queries")
    assert "the queries of the principal climber look like an attack" in watched.gateway.log()


def test_an_honest_neighbour_in_the_same_batches_feels_nothing(watched: Watched) -> None:
    """While an attacker's rows share batches with an honest client's rows, the honest client gets what it got alone."""
    rows = images(16, 81)
    alone = [watched.ask("shopper", row[None])[0] for row in rows]
    probe = images(1, 82)[0]

    def ask(place: int) -> dict[str, Any]:
        who, row = ("crowd", near(probe, 1, place)) if place % 2 else ("shopper", rows[place // 2 % 16][None])
        return watched.ask(who, row)[0]

    def shared() -> bool:
        before = watched.series(BATCHES)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(4 * QUERIES)))
        for place, answer in enumerate(answers):
            if place % 2 == 0:
                expected = alone[place // 2 % 16]
                assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
                assert (answer["label"], answer["action"]) == (expected["label"], expected["action"])
        return watched.series(BATCHES) - before < len(answers)

    until(shared)
    log = watched.gateway.log()
    assert "the queries of the principal crowd look like an attack" in log
    assert "principal shopper" not in log
