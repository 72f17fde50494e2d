"""What was counted last: blocks of rows, and windows of the last blocks, beside the totals since the start.

A total hides a recent change: 2,000 wrong answers after 20,000 right ones move the accuracy by little. So the last rows
are counted in blocks too, and a monitor judges windows that begin with a block and end now. Each window has an interval
that holds whenever one looks, but for a chance of ``BLOCK_ROWS / RUN_LENGTH``, see :mod:`guards.confidence_sequences`.
So of the blocks of ``RUN_LENGTH`` rows without a change, one at most, on average, ever begins a window that alarms:
that is the average run length between false alarms. Lorden 1971, "Procedures for reacting to a change in distribution",
makes a sequential test that restarts with every row in the same way.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALPHA",
    "BLOCKS",
    "BLOCK_ROWS",
    "ENOUGH_ROWS",
    "RUN_LENGTH",
    "STAGES",
    "Blocks",
    "Stage",
    "cut",
    "windows_of",
]

Counts = npt.NDArray[np.int64]
Stage = Literal["answers", "outcomes"]
"""Rows are counted as they are answered, and again as their outcomes come to be known: each time in blocks."""
STAGES: tuple[Stage, ...] = get_args(Stage)
BLOCK_ROWS = 250
"""A block is full with so many rows; rows that come together, as in one transaction, may make it larger."""
BLOCKS = 40
"""How many blocks are kept of each stage."""
WINDOWS = (1, 2, 4, 10, 20, BLOCKS)
RUN_LENGTH = 100_000
"""Rows without a change until a recent figure raises a false alarm: at least so many, on average."""
ALPHA = BLOCK_ROWS / RUN_LENGTH
ENOUGH_ROWS = 1000
"""The recent figures that are shown are of the shortest window with so many rows."""


class Blocks:
    """The blocks of one stage, in one process: the last :data:`BLOCKS` of them."""

    def __init__(self) -> None:
        self.rows: deque[int] = deque(maxlen=BLOCKS)
        self.counts: deque[Counts] = deque(maxlen=BLOCKS)

    @property
    def room(self) -> int:
        """How many rows fill the block that is begun."""
        return BLOCK_ROWS - self.rows[-1] if self.rows and self.rows[-1] < BLOCK_ROWS else BLOCK_ROWS

    def add(self, rows: int, counts: Counts) -> None:
        """Add the counts (size,) of so many rows to the block that is begun, or begin one."""
        if not self.rows or self.rows[-1] >= BLOCK_ROWS:
            self.rows.append(0)
            self.counts.append(np.zeros_like(counts))
        self.rows[-1] += rows
        self.counts[-1] += counts

    def snapshot(self, size: int) -> tuple[Counts, Counts]:
        """Copy the blocks' rows (b,) and counts (b, size)."""
        counts = np.stack(self.counts) if self.counts else np.zeros((0, size), np.int64)
        return np.array(self.rows, np.int64), counts

    def restore(self, rows: Counts, counts: Counts) -> None:
        """Go on from the arrays of a snapshot."""
        self.rows = deque(rows.tolist(), maxlen=BLOCKS)
        self.counts = deque((np.array(one, np.int64) for one in counts), maxlen=BLOCKS)


def cut(rows: int, room: int) -> Iterator[slice]:
    """Cut rows where blocks end: after the first ``room`` rows, and then after every :data:`BLOCK_ROWS`."""
    start = 0
    while start < rows:
        stop = min(rows, start + room)
        yield slice(start, stop)
        start, room = stop, BLOCK_ROWS


def windows_of(blocks: Mapping[Stage, Sequence[Counts]], size: int) -> tuple[Counts, ...]:
    """Add the last 1, 2, 4 and more blocks of both stages up, the newest alone first: counts (size,) each."""
    longest = max((len(each) for each in blocks.values()), default=0)
    windows: list[Counts] = []
    total, taken = np.zeros(size, np.int64), 0
    for length in WINDOWS:
        if taken >= longest:
            break
        for each in blocks.values():
            for counts in list(each)[max(0, len(each) - length) : max(0, len(each) - taken)]:
                total = total + counts
        windows.append(total.copy())
        taken = length
    return tuple(windows)
