"""CPU time, memory, open files and garbage collection of each process and of the whole server."""

import asyncio
import gc
import math
import os
import resource
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.messages.board import Board
from service.messages.seat import Seat
from service.telemetry.metrics.plain_families import Family, sample

__all__ = ["ProcessFigures", "server_figures"]

Floats = npt.NDArray[np.float64]
PROC = Path("/proc")
TICKS, PAGE_BYTES = os.sysconf("SC_CLK_TCK"), resource.getpagesize()
PUBLISH_SECONDS = 1.0
GENERATIONS = 3
START, VIRTUAL, RESIDENT, OPEN, MOST_OPEN, CPU = range(6)
COLLECTED, UNCOLLECTABLE, COLLECTIONS = (CPU + 1 + GENERATIONS * each for each in range(3))
COUNTERS = slice(CPU, CPU + 1 + 3 * GENERATIONS)
"""The figures that only grow; the figures before them go up and down."""
NAMES = (
    (VIRTUAL, "process_virtual_memory_bytes", "Virtual memory size in bytes."),
    (RESIDENT, "process_resident_memory_bytes", "Resident memory size in bytes."),
    (START, "process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
    (CPU, "process_cpu_seconds", "Total user and system CPU time spent in seconds."),
    (OPEN, "process_open_fds", "Number of open file descriptors."),
    (MOST_OPEN, "process_max_fds", "Maximum number of open file descriptors."),
)
GC_NAMES = (
    (COLLECTED, "python_gc_objects_collected", "Objects collected during gc"),
    (UNCOLLECTABLE, "python_gc_objects_uncollectable", "Uncollectable objects found during GC"),
    (COLLECTIONS, "python_gc_collections", "Number of times this generation was collected"),
)


class ProcessFigures:
    """Writes this process's figures to its seat. The counters include the seat's earlier processes."""

    def __init__(self, seat: Seat) -> None:
        """Write the figures for the first time."""
        self._figures = seat.process
        self._before = self._figures[COUNTERS].copy()
        self._started = self._figures[START] or _started()
        """When the first process of the seat was started; the seat's counters count from then on."""
        self.publish()

    def publish(self) -> None:
        """Write this process's figures to the seat."""
        words = (PROC / "self/stat").read_text().rpartition(")")[2].split()
        figures, stats = self._figures, gc.get_stats()
        figures[START] = self._started
        figures[VIRTUAL], figures[RESIDENT] = float(words[20]), float(words[21]) * PAGE_BYTES
        figures[OPEN] = len(os.listdir(PROC / "self/fd"))  # noqa: PTH208 - only the number of names is needed
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        figures[MOST_OPEN] = math.inf if most == resource.RLIM_INFINITY else most
        counted = [(float(words[11]) + float(words[12])) / TICKS]
        for what in ("collected", "uncollectable", "collections"):
            counted += [each[what] for each in stats]
        figures[COUNTERS] = np.maximum(figures[COUNTERS], self._before + counted)

    async def keep_publishing(self) -> None:
        """Write this process's figures to the seat once a second, until the task is cancelled."""
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            self.publish()


def server_figures(board: Board) -> list[Family]:
    """Give the figures of the whole server, under the names that prometheus_client uses for one process.

    Counters are sums over all processes, dead or alive. Memory and open files are sums over the living processes. The
    start time is the start of the first process. The limit of open files is the lowest limit of any process.
    """
    seats = [board.seat(number) for number in range(board.seats)]
    all_seats = np.stack([seat.process for seat in seats])
    ever = all_seats[all_seats[:, START] > 0]
    alive = all_seats[[board.is_held(seat.number) and seat.process[START] > 0 for seat in seats]]
    figures: Floats = ever.sum(0)
    for place in (VIRTUAL, RESIDENT, OPEN):
        figures[place] = alive[:, place].sum()
    figures[START] = ever[:, START].min(initial=np.inf)
    figures[MOST_OPEN] = alive[:, MOST_OPEN].min(initial=np.inf)
    families: list[Family] = [
        {
            "name": name,
            "help": help_text,
            "kind": "counter" if place == CPU else "gauge",
            "labels": [],
            "samples": [sample((), figures[place])],
        }
        for place, name, help_text in NAMES
    ]
    for first, name, help_text in GC_NAMES:
        samples = [sample((str(each),), figures[first + each]) for each in range(GENERATIONS)]
        families.append(
            {"name": name, "help": help_text, "kind": "counter", "labels": ["generation"], "samples": samples}
        )
    return families


def _started() -> float:
    """Return when this process was started, in seconds since the epoch."""
    booted = next(
        float(line.split()[1]) for line in (PROC / "stat").read_text().splitlines() if line.startswith("btime ")
    )
    return booted + float((PROC / "self/stat").read_text().rpartition(")")[2].split()[19]) / TICKS
