"""What a server's processes take: processor time and memory, by what each process does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Memory", "cpu_seconds", "memory", "role_of"]

KIB, MIB = 2**10, 2**20
ROLES = (
    ("service.lifecycle.engine_process", "engine"),  # and its spare
    ("service.store.store_server", "store"),
    ("service.explain.worker_main", "explain worker"),
    ("slow_work/process.py", "monitor worker"),
)
"""What a command line contains, and the role of its process."""


@dataclass(frozen=True)
class Memory:
    """Memory of the processes of one role: resident bytes count a page for every process that maps it, PSS once."""

    processes: int
    rss_mib: float
    pss_mib: float
    largest_rss_mib: float
    largest_pss_mib: float


def role_of(command: list[str], *, supervisor: bool, worker: str) -> str:
    """Say what a process does, by its command line.

    ``supervisor`` says that all others are the process's children; ``worker`` is the role of the processes that nothing
    else names.
    """
    if supervisor:
        return "supervisor"
    line = " ".join(command)
    return next((role for part, role in ROLES if part in line), worker)


def cpu_seconds(pid: int, worker: str) -> dict[str, float]:
    """Return the processor time so far of a server's processes by role, with their dead children's.

    The difference of two calls is what a server took in between. Its resolution is 0.01 s a process.
    """
    found: dict[str, float] = {}
    for process, role in _processes(pid, worker):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # it has ended meanwhile: its parent has its time
            continue
        spent = times.user + times.system + times.children_user + times.children_system
        found[role] = found.get(role, 0.0) + spent
    return found


def memory(pid: int, worker: str) -> dict[str, Memory]:
    """Return the memory of a server's processes by role."""
    sizes: dict[str, list[tuple[float, float]]] = {}
    for process, role in _processes(pid, worker):
        try:
            rss = process.memory_info().rss / MIB
            sizes.setdefault(role, []).append((rss, _pss(process.pid) / MIB))
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
    return {
        role: Memory(
            processes=len(each),
            rss_mib=sum(rss for rss, _ in each),
            pss_mib=sum(pss for _, pss in each),
            largest_rss_mib=max(rss for rss, _ in each),
            largest_pss_mib=max(pss for _, pss in each),
        )
        for role, each in sizes.items()
    }


def _processes(pid: int, worker: str) -> Iterator[tuple[psutil.Process, str]]:
    root = psutil.Process(pid)
    children = root.children(recursive=True)
    for process in [root, *children]:
        try:
            command = process.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        yield process, role_of(command, supervisor=bool(children) and process == root, worker=worker)


def _pss(pid: int) -> int:
    """Read the proportional set size in bytes: what a process maps alone, and its share of what others map, too."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, size = line.partition(":")
        if name == "Pss":
            return int(size.split()[0]) * KIB
    raise ProcessLookupError(pid)
