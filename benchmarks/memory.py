"""Whether a guarded gateway's memory stays flat under load: 200,000 requests, resident bytes of all its processes.

wrk sends single rows, JSON and binary data in turn; after every few seconds the resident memory is read. The first half
of the requests is for caches, heaps and timers to fill; over the second half it must stay within 2 % of its median.
"""

import json
import statistics
import tempfile
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.load import check, loads, need_wrk, wrk
from benchmarks.machine import describe
from benchmarks.servers import GUARDS, gateway, start, stop

REQUESTS, QUICK_REQUESTS = 200_000, 4_000
CHUNK_SECONDS, QUICK_CHUNK_SECONDS = 5.0, 1.0
CLIENTS = 16
TOLERANCE = 0.02
MIB = 2**20


def main(*, quick: bool) -> None:
    """Measure, say whether it is flat, and print the JSON document."""
    need_wrk()
    wanted, seconds = (QUICK_REQUESTS, QUICK_CHUNK_SECONDS) if quick else (REQUESTS, CHUNK_SECONDS)
    console = Console(stderr=True)
    kinds = [load for load in loads() if load.rows == 1 and load.clients == CLIENTS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = gateway("guarded", GUARDS, folder)
        process, port = start(stack, folder)
        try:
            check(stack, loads()[0], port)
            sent, failed, samples = 0, 0, [(0, _resident(process.pid))]
            while sent < wanted:
                for load in kinds:
                    counts = wrk(stack, load, port, seconds, folder)
                    sent += int(counts["requests"])
                    failed += int(counts["not_2xx"] + counts["broken"])
                samples.append((sent, _resident(process.pid)))
                console.print(f"{sent} requests: {samples[-1][1] / MIB:.1f} MiB", highlight=False)
        finally:
            stop(process)
    document = {"machine": describe(), "requests": sent, "failed": failed, **_summary(samples)}
    print(json.dumps(document, indent=1))


def _resident(pid: int) -> int:
    """Add up the resident bytes of a process and all that it started."""
    parent = psutil.Process(pid)
    return sum(int(process.memory_info().rss) for process in [parent, *parent.children(recursive=True)])


def _summary(samples: list[tuple[int, int]]) -> dict[str, object]:
    """Give how far the second half of the requests strays from its median, and where its last sample is beside it."""
    later = [resident for sent, resident in samples if sent >= samples[-1][0] / 2]
    median = statistics.median(later)
    lowest, highest = min(later) / median - 1, max(later) / median - 1
    return {
        "samples": [{"requests": sent, "mib": round(resident / MIB, 1)} for sent, resident in samples],
        "second_half": {"median_mib": round(median / MIB, 1), "lowest": lowest, "highest": highest},
        "flat": max(-lowest, highest) <= TOLERANCE,
    }
