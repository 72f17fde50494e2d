"""Measures how long each stage of a batch takes: with the system clock on a CPU, with CUDA events on a GPU."""

import time
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch

__all__ = ["Laps"]


class Laps:
    """The marks of one batch. On a GPU, the marks are read after the batch, so that no mark waits for the GPU."""

    __slots__ = ("_cuda", "_marks", "_started")

    def __init__(self, device: torch.device) -> None:
        """Mark the start."""
        self._cuda = device.type == "cuda"
        self._marks: list[Any] = []
        """Seconds of ``time.perf_counter``, or CUDA events."""
        self._started = time.perf_counter()
        self.mark()

    def mark(self) -> None:
        """Mark the end of a stage."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> Sequence[float]:
        """Give the duration of each stage in seconds. On a GPU, the GPU must have reached the last mark."""
        if self._cuda:
            return [a.elapsed_time(b) / 1e3 for a, b in pairwise(self._marks)]
        return [b - a for a, b in pairwise(self._marks)]

    def moments(self) -> Sequence[float]:
        """Give the time of each mark by ``time.perf_counter``; a GPU's first mark counts as the start of the batch."""
        return list(accumulate(self.seconds(), initial=self._started))
