"""An engine is killed and started again: every scrape continues its counters."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import counting_engine
import tiny_models

from service.messages.board import Board
from service.messages.paths import BOARD, FAMILIES
from service.telemetry.metrics.plain_families import FamiliesFile

SCRAPES = 40


def life(folder: Path) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
    """Run an engine until it was scraped often enough, kill it, and give its first and its last exported counters."""
    command = [sys.executable, counting_engine.__file__, str(folder)]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        file = FamiliesFile(folder / FAMILIES)
        assert engine.stdout.readline() == b"scraped\n"
        first = file.counters()
        engine.stdin.write(b"\n")
        engine.stdin.flush()
        for _ in range(SCRAPES):
            assert engine.stdout.readline() == b"scraped\n"
        engine.send_signal(signal.SIGKILL)
        engine.wait()
        return first, file.counters()


def test_counters_of_monitors_go_on_in_the_next_engine(tmp_path: Path) -> None:
    """The next engine first exports the same counters as the last one, whatever its monitors' snapshot holds."""
    monitors = [{"kind": "bins", "name": "streams"}, {"kind": "sequential", "name": "drift"}]
    tiny_models.fitted("tabular", monitors=monitors).bundle.save(tmp_path / "bundle")
    Board.make(tmp_path / BOARD, 1)
    before = dict[tuple[str, ...], float]()
    for _ in range(3):
        first, last = life(tmp_path)
        assert not before or first == before
        assert [key for key in first if last[key] < first[key]] == []
        assert sum(last[key] - first[key] for key in last if key[0] == "stream_bin") > 0
        before = last
    assert (tmp_path / "toy.monitors.safetensors").exists()
