"""Recent counts: blocks of rows, and windows of the latest blocks, beside the totals since the start.

A total hides a recent change: 2,000 wrong answers after 20,000 right answers change the accuracy by little. So recent
rows are also counted in blocks, and a monitor judges windows that begin with a block and end now. Each window has an
interval that holds at all times, except with probability ``BLOCK_ROWS / RUN_LENGTH``: see
:mod:`guards.statistics.confidence_sequences`.
So among the blocks of ``RUN_LENGTH`` rows without a change, on average at most one ever begins a window that alarms:
that is the average run length between false alarms. Lorden 1971, "Procedures for reacting to a change in distribution",
builds a sequential test that restarts with every row in the same way.
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
"""Rows are counted when they are answered, and again when their outcomes become known: each time in blocks."""
STAGES: tuple[Stage, ...] = get_args(Stage)
BLOCK_ROWS = 250
"""The rows of a full block. Rows that are counted together, as in one transaction, may make a block larger."""
BLOCKS = 40
"""The number of blocks that are kept for each stage."""
WINDOWS = (1, 2, 4, 10, 20, BLOCKS)
RUN_LENGTH = 100_000
"""The least average number of rows without a change until a recent figure raises a false alarm."""
ALPHA = BLOCK_ROWS / RUN_LENGTH
ENOUGH_ROWS = 1000
"""Reports show the recent figures of the shortest window with at least so many rows."""


class Blocks:
    """The blocks of one stage, in one process: the last :data:`BLOCKS` of them."""

    def __init__(self) -> None:
        self.rows: deque[int] = deque(maxlen=BLOCKS)
        self.counts: deque[Counts] = deque(maxlen=BLOCKS)

    @property
    def room(self) -> int:
        """The number of rows that fill the current block."""
        return BLOCK_ROWS - self.rows[-1] if self.rows and self.rows[-1] < BLOCK_ROWS else BLOCK_ROWS

    def add(self, rows: int, counts: Counts) -> None:
        """Add the counts (size,) of ``rows`` rows to the current block; if the block is full, begin the next block."""
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
        """Continue from the arrays of a snapshot."""
        self.rows = deque(rows.tolist(), maxlen=BLOCKS)
        self.counts = deque((np.array(one, np.int64) for one in counts), maxlen=BLOCKS)


def cut(rows: int, room: int) -> Iterator[slice]:
    """Cut ``rows`` rows at the ends of blocks: after the first ``room`` rows, then after every :data:`BLOCK_ROWS`."""
    start = 0
    while start < rows:
        stop = min(rows, start + room)
        yield slice(start, stop)
        start, room = stop, BLOCK_ROWS


def windows_of(blocks: Mapping[Stage, Sequence[Counts]], size: int) -> tuple[Counts, ...]:
    """Sum the latest 1, 2, 4 and more blocks of both stages: counts (size,) for each window, the shortest first."""
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
