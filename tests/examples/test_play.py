"""The demo's traffic: rows of several kinds, late labels, and a drift."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "digits" / "play.py"
HERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def play() -> ModuleType:
    spec = importlib.util.spec_from_file_location("play", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write test images that are all bright, and foreign images that are all half grey."""
    np.savez(tmp_path / "test.npz", x=np.ones((50, 1, 8, 8), np.float32), y=np.arange(50) % 10)
    np.savez(tmp_path / "suspect.npz", x=np.full((5, 1, 8, 8), 0.5, np.float32))
    return tmp_path


def played(
    play: ModuleType, folder: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[float, str, Any]]:
    """Play against a server that accepts everything, in a time that passes at once; gives what came when."""
    now = [0.0]
    monkeypatch.setattr(play.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(play.time, "sleep", lambda pause: now.__setitem__(0, now[0] + pause))
    came: list[tuple[float, str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        came.append((now[0], request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={})

    with httpx.Client(transport=httpx.MockTransport(answer), base_url=HERE) as client:
        rows = play.play(client, folder, seconds)
    assert rows == sum(len(body["instances"]) for _, path, body in came if path.endswith(":predict"))
    return came


def test_labels_follow_their_answers(play: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels name rows that were predicted ten seconds before, each once, and most of them."""
    came = played(play, folder, 40, monkeypatch)
    asked = {id_: at for at, path, body in came if path.endswith(":predict") for id_ in body["ids"]}
    labelled = [(at, each["id"]) for at, path, body in came if path.endswith(":feedback") for each in body["outcomes"]]
    assert 0.4 * len(asked) < len(labelled) == len({name for _, name in labelled}) < 0.9 * len(asked)
    assert all(at - asked[name] >= play.LABEL_AFTER - 1e-6 for at, name in labelled)


def test_rows_darken_after_a_minute(play: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, most rows are as bright as the test images; afterwards none is; foreign rows come all the time."""
    came = [(at, body) for at, path, body in played(play, folder, 120, monkeypatch) if path.endswith(":predict")]
    means = [(at, float(np.mean(row))) for at, body in came for row in body["instances"]]
    early, late = ([mean for at, mean in means if (at > play.DRIFT_AFTER) is after] for after in (False, True))
    assert np.median(early) == 1
    assert np.median(late) == pytest.approx(play.DARKER)
    assert 0.5 in early


def test_a_server_that_is_not_there_is_named() -> None:
    """Without a server the script ends with one sentence, which says how to start it."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--url", HERE, "--seconds", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "make serve" in done.stderr
    assert "Traceback" not in done.stderr
