"""The run folder, in which the processes of one server find each other, and the names of the files in it."""

import os
from pathlib import Path

__all__ = [
    "BOARD",
    "CONTROL_SOCKET",
    "FAMILIES",
    "ROW_SOCKET",
    "RUN_FOLDER",
    "SERVED_PORT",
    "STORE_SOCKET",
    "run_folder",
]

RUN_FOLDER = "GUARDHOUSE_RUN"
"""The environment variable with the path of the run folder; the supervisor sets it."""
SERVED_PORT = "GUARDHOUSE_SERVED_PORT"
"""The environment variable with the port at which the fronts serve HTTP; the supervisor sets it."""
BOARD, CONTROL_SOCKET, ROW_SOCKET, STORE_SOCKET = "board", "control", "rows", "store"
FAMILIES = "families.json"
"""The engine's latest metric families; see :mod:`service.telemetry.metrics.plain_families`."""


def run_folder() -> Path | None:
    """Give the run folder; None if no supervisor of this server started this process."""
    named = os.environ.get(RUN_FOLDER)
    return None if not named else Path(named)
