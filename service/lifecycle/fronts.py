"""The number of a server's front processes: read from the config, or chosen by the number of cores."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

__all__ = ["MOST_FRONTS", "available_cores", "number_of_fronts"]

MOST_FRONTS = 64
CORES_PER_FRONT, MOST_AUTO = 4, 8
"""The default: one front for every ``CORES_PER_FRONT`` cores, and at most ``MOST_AUTO`` fronts. One front answers
thousands of requests a second. If there are few cores, a second front only takes processor time from the model."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Count the cores that this process may use, by its CPU affinity and its control group's quota (at least 1)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = QUOTA.read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def number_of_fronts(environment: Mapping[str, str] = os.environ) -> int:
    """Read `server.fronts` from the config; if it is "auto", choose by the number of cores.

    The supervisor calls this function before anything has checked the config. If the config has no valid number, this
    function chooses as for "auto", and the engine reports what is wrong with the config.
    """
    fronts = _configured(environment)
    if isinstance(fronts, int) and not isinstance(fronts, bool) and 1 <= fronts <= MOST_FRONTS:
        return fronts
    return max(1, min(MOST_AUTO, available_cores() // CORES_PER_FRONT))


def _configured(environment: Mapping[str, str]) -> Any:  # noqa: ANN401 - the file may hold any value
    document: Any = None
    with suppress(OSError, ValueError, yaml.YAMLError):
        if config := environment.get("GUARDHOUSE_CONFIG"):
            document = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        elif bundle := environment.get("GUARDHOUSE_BUNDLE"):
            document = json.loads((Path(bundle) / "manifest.json").read_text(encoding="utf-8")).get("config")
    server = document.get("server") if isinstance(document, dict) else None
    return server.get("fronts") if isinstance(server, dict) else None
