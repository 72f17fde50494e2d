"""The store's figures for the metrics."""

import math
from dataclasses import dataclass

__all__ = ["StoreFigures"]


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """Sizes in bytes, the time of the oldest row, and whether the database is down; the defaults stand for no store."""

    bytes: float = 0.0
    max_bytes: int = 0
    oldest: float = math.nan
    """When the oldest stored prediction was answered, in seconds since the epoch; NaN if there is none."""
    files_lost: int = 0
    """How often this process found the SQLite file deleted or replaced."""
    down: bool = False
