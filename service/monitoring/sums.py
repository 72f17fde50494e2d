"""The monitors' counts in the form in which the store sums them over processes and restarts; needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from guards.monitors.answered_rows import Records
from guards.statistics.recent_blocks import Stage, windows_of

__all__ = ["Counts", "NoSumsError", "Places", "Sums", "Tallies", "Tally", "judged", "totals_of"]

Counts = npt.NDArray[np.int64]
Tallies = Mapping[str, Counts]
"""The counts of each monitor, in the monitor's own shape."""
Tally = Callable[[Records], Tallies]
"""Counts rows for every counting monitor."""
Places = Mapping[int, int]
"""Counts by their index in a monitor's flattened counts; an index that is missing has the count 0."""


class NoSumsError(Exception):
    """The store's totals cannot be read now."""


@dataclass(frozen=True, slots=True)
class Sums:
    """The totals of a scope by monitor, the bundles of the counted rows, and, for one bundle, the last blocks by stage.

    ``bundles`` holds "" for rows that were counted before totals were stored by bundle.
    """

    totals: Mapping[str, Places]
    bundles: tuple[str, ...] = ()
    blocks: Mapping[Stage, Sequence[Mapping[str, Places]]] = field(default_factory=dict)
    rows: Mapping[Stage, int] = field(default_factory=dict)
    """How many rows were counted when they were answered, and how many when their outcomes became known."""


def totals_of(places: Places, counts: Counts) -> Counts:
    """Give the store's totals as an array in the shape of a monitor's own counts."""
    totals = np.zeros_like(counts)
    totals.flat[list(places.keys())] = list(places.values())
    return totals


def judged(sums: Sums, monitor: str, counts: Counts) -> tuple[Counts, Sequence[Counts]]:
    """Give a monitor's totals and its windows of recent counts, each in the shape of the monitor's own counts."""
    blocks = {
        stage: [totals_of(block.get(monitor, {}), counts) for block in each] for stage, each in sums.blocks.items()
    }
    return totals_of(sums.totals.get(monitor, {}), counts), windows_of(blocks, counts.size)
