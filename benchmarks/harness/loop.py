"""The model in a loop, in a process of its own that waits for its turns: see :mod:`benchmarks.stacks.loop`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.harness.servers import ROOT

__all__ = ["Loop", "looping"]


class Loop:
    """The process: which batch size it chose, by which rates."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        chosen = self._read()
        self.batch_rows: int = chosen["batch_rows"]
        self.by_size: dict[str, float] = chosen["rows_per_core_second"]

    def measure(self, seconds: float) -> dict[str, float]:
        """Run for some seconds; return rows a second, and rows a second of processor time."""
        assert self._process.stdin is not None  # noqa: S101 - it was made with a pipe
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - likewise
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the model in a loop ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def looping(trials: int) -> Iterator[Loop]:
    """Start the loop; it chooses its batch size over so many trials, and then waits."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stacks.loop", str(trials)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        yield Loop(process)
    finally:
        assert process.stdin is not None  # noqa: S101 - likewise
        process.stdin.close()
        process.wait()
