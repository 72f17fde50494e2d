"""The loop that serves as a ceiling: how it chooses its batch size, and that it keeps freed memory."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.stacks.loop import SIZES, rates, run

ROOT = Path(__file__).parents[3]
LARGE_BATCH = 512
RUNS = 8


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_one_slow_moment_does_not_choose_the_batch_size() -> None:
    """A call that is slow once, at the size that is best, does not change the choice."""
    calls: dict[int, int] = {}

    def call(size: int) -> None:
        calls[size] = calls.get(size, 0) + 1
        busy(0.02 if size == 32 and calls[size] == 3 else 1e-4 * size * (0.5 if size == 32 else 1))

    found = rates(call, 5, 0.002)
    assert found.keys() == set(SIZES)
    assert max(found, key=lambda size: found[size]) == 32


def test_a_run_counts_rows_and_time() -> None:
    """A run's rows are its calls times the batch size; its processor time is no more than its time."""
    calls = []
    rows, spent, taken = run(lambda size: (busy(0.005), calls.append(size))[0], 8, 0.05)
    assert rows == 8 * len(calls)
    assert 0.005 * len(calls) <= spent <= taken + 0.01
    assert taken >= 0.05


def test_the_loop_keeps_freed_memory() -> None:
    """Activations larger than what glibc keeps by itself stay with the process: calls cause no page faults."""
    program = f"from benchmarks.stacks import loop; loop.SIZES = ({LARGE_BATCH},); loop.main(1)"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["batch_rows"] == LARGE_BATCH
    grown = []
    for _ in range(RUNS):
        before = faults(process.pid)
        process.stdin.write("0.1\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["rows_per_second"] > 0
        grown.append(faults(process.pid) - before)
    process.communicate()
    activations = LARGE_BATCH * 64 * 24 * 24 * 4  # what the second convolution writes in one call, in bytes
    # The heap may grow once more while its blocks find their places; a loop that gives memory back grows in every run.
    assert min(grown) * resource.getpagesize() < 0.01 * activations


def faults(pid: int) -> int:
    """Read how many pages a process has been given so far without reading a disk."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])
