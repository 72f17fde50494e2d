"""How long a batch's stages took: by the executor's clock on a CPU, by events on the stream of a GPU."""

import time
from collections.abc import Sequence
from itertools import accumulate

import torch

__all__ = ["Laps"]


class Laps:
    """Marks moments of one batch; on a GPU they are read once its work is done, so that no mark waits for it."""

    __slots__ = ("_cuda", "_marks", "_started")

    def __init__(self, device: torch.device) -> None:
        """Mark the start."""
        self._cuda = device.type == "cuda"
        self._marks: list[float | torch.cuda.Event] = []
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
        """Give each stage's duration; on a GPU the last mark must have been reached."""
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return [
            b - a if isinstance(a, float) and isinstance(b, float) else a.elapsed_time(b) / 1e3  # type: ignore[union-attr, arg-type]
            for a, b in pairs
        ]

    def moments(self) -> Sequence[float]:
        """Give each mark by ``time.perf_counter``; a GPU's clock is taken to have started with the first."""
        return list(accumulate(self.seconds(), initial=self._started))
