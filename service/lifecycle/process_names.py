"""The short name of the engine's process in ``ps`` and ``top``, which tells the engine from its spare."""

from contextlib import suppress
from pathlib import Path

__all__ = ["SERVING", "SPARE", "STARTING", "WAITING", "call_this_process"]

WAITING, SPARE, STARTING, SERVING = "engine-waits", "engine-spare", "engine-start", "engine"
"""The spare before and after it has imported what the engine needs; the engine before and after it is ready."""


def call_this_process(name: str) -> None:
    """Give this process a short name (15 bytes at most)."""
    with suppress(OSError):  # a container without /proc: the process works without the name
        Path("/proc/self/comm").write_text(name, encoding="ascii")
