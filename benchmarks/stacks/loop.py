"""The model called in a loop at its best batch size: the ceiling of what serving the model can reach.

It keeps freed memory as the server does; without that, a batch's activations go back to the kernel after every call,
and the loop is no ceiling. ``python -m benchmarks.stacks.loop TRIALS`` prints the batch size that it chose, with the
rates by batch size; then, for every line of seconds on standard input, the rate over so many seconds.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.stacks.cnn import build, images
from service import memory

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
TRIAL_SECONDS = 0.1


def rates(call: Callable[[int], None], trials: int, seconds: float = TRIAL_SECONDS) -> dict[int, float]:
    """Measure rows per second of processor time by batch size: medians of trials that take turns.

    Other processes hardly move processor time, and a median of turns is moved by no single busy moment.
    """
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    for size in SIZES:
        call(size)
    for _ in range(trials):
        for size, each in found.items():
            rows, spent, _ = run(call, size, seconds)
            each.append(rows / spent)
    return {size: statistics.median(each) for size, each in found.items()}


def run(call: Callable[[int], None], size: int, seconds: float) -> tuple[int, float, float]:
    """Call for some seconds; return the rows, the processor time and the time that it took."""
    rows, began, busy = 0, time.perf_counter(), time.process_time()
    while True:
        call(size)
        rows += size
        if (taken := time.perf_counter() - began) >= seconds:
            return rows, time.process_time() - busy, taken


def main(trials: int) -> None:
    """Choose the best batch size; then measure it whenever a line of seconds arrives."""
    memory.keep()
    model = build()
    batches = {size: images(size, 0) for size in SIZES}

    def call(size: int) -> None:
        model(batches[size])

    memory.settle()
    with torch.inference_mode():
        by_size = rates(call, trials)
        best = max(by_size, key=lambda size: by_size[size])
        _say({"batch_rows": best, "rows_per_core_second": by_size})
        for line in sys.stdin:
            rows, busy, taken = run(call, best, float(line))
            _say({"rows_per_second": rows / taken, "rows_per_core_second": rows / busy})


def _say(figures: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
