"""Whether a guarded gateway's memory stays flat under load, and what each of its processes takes.

wrk sends 200,000 requests of single rows, JSON and binary data in turn; the memory of all processes is read every few
seconds. The first half of the requests is for caches, heaps and timers to fill. Over the second half, the resident
memory of all processes must stay within 2 % of its median.
"""

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from benchmarks.harness.load import check, loads, need_wrk, wrk
from benchmarks.harness.processes import Memory, memory
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.servers import GUARDS, Server, gateway, running

REQUESTS, QUICK_REQUESTS = 200_000, 4_000
CHUNK_SECONDS, QUICK_CHUNK_SECONDS = 5.0, 1.0
CLIENTS = 16
TOLERANCE = 0.02
Roles = Mapping[str, Memory]


def main(*, quick: bool) -> None:
    """Measure, say whether it is flat, and print a table and the JSON document."""
    need_wrk()
    wanted, seconds = (QUICK_REQUESTS, QUICK_CHUNK_SECONDS) if quick else (REQUESTS, CHUNK_SECONDS)
    console = Console(stderr=True)
    kinds = [load for load in loads() if load.rows == 1 and load.clients == CLIENTS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(gateway("guarded", GUARDS, folder), folder) as server:
            check(server)
            sent, failed, samples = 0, 0, [(0, _roles(server))]
            while sent < wanted:
                for load in kinds:
                    counts = wrk(server, load, seconds)
                    sent += int(counts["requests"])
                    failed += int(counts["not_2xx"] + counts["broken"])
                samples.append((sent, _roles(server)))
                console.print(f"{sent} requests: {_resident(samples[-1][1]):.1f} MiB", highlight=False)
    flatness = _flatness([(count, _resident(roles)) for count, roles in samples])
    print_table(f"after {sent} requests, MiB", {role: _row(each) for role, each in samples[-1][1].items()})
    print_table("resident memory of all processes, second half of the requests", {"guarded": flatness})
    print_document(
        "memory", quick=quick, requests=sent, failed=failed, second_half=flatness,
        samples=[{"requests": count, "resident_mib": _resident(roles), "roles": roles} for count, roles in samples],
    )  # fmt: skip


def _roles(server: Server) -> Roles:
    return memory(server.pid, server.stack.worker)


def _resident(roles: Roles) -> float:
    """Add up the resident memory of all processes, in MiB: shared pages count for each."""
    return sum(each.rss_mib for each in roles.values())


def _row(found: Memory) -> dict[str, object]:
    return {
        "processes": found.processes,
        "RSS": round(found.rss_mib, 1),
        "PSS": round(found.pss_mib, 1),
        "largest RSS": round(found.largest_rss_mib, 1),
        "largest PSS": round(found.largest_pss_mib, 1),
    }


def _flatness(samples: list[tuple[int, float]]) -> dict[str, object]:
    """Say how far the second half of the requests strays from its median."""
    later = [resident for sent, resident in samples if sent >= samples[-1][0] / 2]
    median = statistics.median(later)
    lowest, highest = min(later) / median - 1, max(later) / median - 1
    return {
        "median_mib": median,
        "lowest": lowest,
        "highest": highest,
        "flat": max(-lowest, highest) <= TOLERANCE,
    }
