"""Measures how long fitted detectors take for a row, on batches whose model output is known."""

import statistics
import time
from collections.abc import Sequence

import torch

from guards.detectors.base import Detector
from guards.types import Batch

__all__ = ["BATCH", "Timed", "interleaved"]

BATCH, ROUNDS = 32, 15
"""Batches have so many rows, and a latency is the median of so many rounds."""
MICRO = 1e6
Timed = tuple[Sequence[Detector], Batch]
"""The detectors of all guards, and the batch that they score."""


@torch.inference_mode()
def interleaved(*timed: Timed) -> list[float]:
    """Measure microseconds a row of each of several sets of guards, in turns: a busy moment slows all of them alike."""
    seconds: list[list[float]] = [[] for _ in timed]
    for _ in range(ROUNDS):
        for (detectors, batch), into in zip(timed, seconds, strict=True):
            into.append(_seconds(detectors, batch) / len(batch))
    return [MICRO * statistics.median(each) for each in seconds]


def _seconds(detectors: Sequence[Detector], batch: Batch) -> float:
    fresh = Batch(batch.x, output=batch.output)  # without what another detector has computed of these rows
    _wait(batch)
    started = time.perf_counter()
    for detector in detectors:
        detector.examine(fresh, causes=True)
    _wait(batch)
    return time.perf_counter() - started


def _wait(batch: Batch) -> None:
    if batch.x.is_cuda:
        torch.cuda.synchronize(batch.x.device)
