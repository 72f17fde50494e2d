"""The files of a SQLite database: their size, and whether a connection still writes to the files at their paths."""

import os
from pathlib import Path

from sqlalchemy import URL

__all__ = ["Identity", "SqliteFile"]

Identity = tuple[tuple[int, int] | None, ...]
SUFFIXES = ("", "-wal", "-shm")
"""The suffixes of the database, of the journal with the latest commits, and of the journal's index."""


class SqliteFile:
    """The SQLite database at a path.

    If a database file is deleted, SQLite goes on writing to it: commits succeed, and are lost when the process ends.
    So the files that a connection opened are compared with the files at the paths. This class never opens a file,
    because closing a second descriptor would drop the locks that SQLite holds in this process.
    """

    def __init__(self, url: URL) -> None:
        self.path = Path(url.database or "").absolute()
        self._paths = [f"{self.path}{suffix}" for suffix in SUFFIXES]

    def identity(self) -> Identity:
        """Return the device and inode of each file; None for a file that does not exist or is empty."""
        return tuple(map(_identity, self._paths, (True, False, False)))

    def bytes(self) -> int:
        """Return the size of all files together, in bytes."""
        total = 0
        for path in self._paths:
            try:
                total += os.stat(path).st_size  # noqa: PTH116 - called at every scrape
            except OSError:
                continue
        return total


def _identity(path: str, filled: bool) -> tuple[int, int] | None:
    """Identify a file. If ``filled`` is true, an empty file counts as missing, because it was truncated in place."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called twice in every transaction
    except OSError:
        return None
    return None if filled and not found.st_size else (found.st_dev, found.st_ino)
