"""The files of a SQLite database: whether an open connection still writes to the ones at their paths."""

import os
from pathlib import Path

from sqlalchemy import URL

__all__ = ["Identity", "SqliteFile"]

Identity = tuple[tuple[int, int] | None, ...]
SUFFIXES = ("", "-wal", "-shm")
"""The database, the journal that holds what was committed last, and the index of that journal."""


class SqliteFile:
    """The database at a path.

    SQLite goes on writing to a file that was deleted: its commits succeed, and are gone with the process. So the files
    that a connection opened are compared with the files at their paths. They are never opened here: closing a second
    descriptor would drop the locks that SQLite holds in this process.
    """

    def __init__(self, url: URL) -> None:
        self.path = Path(url.database or "").absolute()
        self._paths = [f"{self.path}{suffix}" for suffix in SUFFIXES]

    def identity(self) -> Identity:
        """Return device and inode of each file at its path, None for a file that is not there or holds nothing."""
        return tuple(map(_identity, self._paths, (True, False, False)))

    def bytes(self) -> int:
        """Measure what the files take on the disk together."""
        total = 0
        for path in self._paths:
            try:
                total += os.stat(path).st_size  # noqa: PTH116 - called at every scrape
            except OSError:
                continue
        return total


def _identity(path: str, filled: bool) -> tuple[int, int] | None:
    """Identify a file; one that must be ``filled`` and is empty was cut off in place, and counts as not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called twice in every transaction
    except OSError:
        return None
    return None if filled and not found.st_size else (found.st_dev, found.st_ino)
