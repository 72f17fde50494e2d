"""The model called in a loop, at the batch sizes a batcher would use: the ceiling of what serving it can reach."""

import json
import sys
import time

import torch

from benchmarks.stacks.cnn import build, images

SIZES = (1, 2, 4, 8, 16, 32, 64)


def main(seconds: float) -> None:
    """Print rows per second by batch size, as JSON."""
    model = build()
    rates = {}
    with torch.inference_mode():
        for size in SIZES:
            x = images(size, 0)
            for _ in range(10):
                model(x)
            count, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                model(x)
                count += size
            rates[size] = count / (time.perf_counter() - started)
    sys.stdout.write(json.dumps(rates))


if __name__ == "__main__":
    main(float(sys.argv[1]))
