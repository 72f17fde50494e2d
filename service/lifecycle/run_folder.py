"""Makes and removes the run folder, in which the processes of one server find each other."""

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from service.lifecycle.pidfile import Process
from service.messages.board import Board
from service.messages.paths import BOARD

__all__ = ["make_run_folder", "remove_run_folder"]

MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory; only its user can enter the folder
PREFIX, OWNER = "guardhouse-", "owner.json"
LONGEST_PATH = 90
"""The most bytes of a folder's path: with a file's name, the path of a Unix socket may have at most 108 bytes."""


def make_run_folder(fronts: int) -> Path:
    """Make the folder with its board: in ``/dev/shm`` if possible, otherwise in the folder for temporary files.

    Run folders that killed servers left behind are removed.

    Raises:
        OSError: no place can be written to, or every place has too long a path.
    """
    refused: OSError | None = None
    for place in dict.fromkeys((MEMORY, Path(tempfile.gettempdir()))):
        if len(os.fsencode(place)) + len(PREFIX) + 8 > LONGEST_PATH:
            refused = OSError(f"{place}: the path is too long for Unix sockets in it; name a shorter TMPDIR")
            continue
        _sweep(place)
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as failure:
            refused = failure
            continue
        try:
            owner = Process.of(os.getpid())
            (folder / OWNER).write_text(json.dumps([owner.pid, owner.started]), encoding="ascii")
            Board.make(folder / BOARD, fronts)
        except OSError as failure:
            refused = failure
            remove_run_folder(folder)
            continue
        return folder
    assert refused is not None  # noqa: S101 - there is at least one place
    raise refused


def remove_run_folder(folder: Path) -> None:
    """Remove the folder if it exists."""
    shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the run folders of servers that were killed, except those of other users."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError, ValueError, TypeError):
            if folder.stat().st_uid == os.getuid():
                pid, started = json.loads((folder / OWNER).read_text(encoding="ascii"))
                if not Process(pid, started).alive():
                    remove_run_folder(folder)
