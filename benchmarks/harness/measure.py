"""One load on one server: rows a second, latency, and processor time by role."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from benchmarks.harness.load import Load, wrk
from benchmarks.harness.processes import cpu_seconds
from benchmarks.harness.servers import Server

__all__ = ["Figures", "measure", "medians"]


@dataclass(frozen=True)
class Figures:
    """What came of one load: requests that failed are no rows, but their processor time counts.

    ``roles`` are microseconds of processor time a request, by what a process of the server does.
    """

    rows_per_second: float
    p50_ms: float
    p99_ms: float
    rows_per_core_second: float
    cpu_us_per_request: float
    failed_share: float
    roles: dict[str, float] = field(default_factory=dict)


def measure(server: Server, load: Load, seconds: float) -> Figures:
    """Load a server for a while; read the processor time of its processes before and after.

    Rows per core-second are the rows that the server answers in a second of processor time, whatever else runs on the
    machine. The client's own time does not count.
    """
    worker = server.stack.worker
    before = cpu_seconds(server.pid, worker)
    result = wrk(server, load, seconds)
    after = cpu_seconds(server.pid, worker)
    requests = max(1.0, result["requests"])
    good = result["requests"] - result["not_2xx"]
    spent = {role: after[role] - before.get(role, 0.0) for role in after}
    total = sum(spent.values())
    return Figures(
        rows_per_second=good * load.rows / result["seconds"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        rows_per_core_second=good * load.rows / total if total else 0.0,
        cpu_us_per_request=1e6 * total / requests,
        failed_share=(result["not_2xx"] + result["broken"]) / requests,
        roles={role: 1e6 * each / requests for role, each in spent.items()},
    )


def medians(rounds: Sequence[Figures]) -> Figures:
    """Return the median of every figure over rounds."""
    names = [each.name for each in fields(Figures) if each.name != "roles"]
    roles = dict.fromkeys(role for each in rounds for role in each.roles)
    return Figures(
        **{name: statistics.median(getattr(each, name) for each in rounds) for name in names},
        roles={role: statistics.median(each.roles.get(role, 0.0) for each in rounds) for role in roles},
    )
