"""What the store keeps: rows go when they are too old, and the oldest go first when there are too many bytes."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from guards.sections import StoreConfig
from service.store import OLD_ROWS, Store
from service.tables import PREDICTIONS

__all__ = ["Figures", "Retention"]

LOG = logging.getLogger("guardhouse")
LOOK_SECONDS, AGAIN_SECONDS = 600.0, 0.5
OLDEST_SECONDS = 10.0
DAY_SECONDS = 86400.0
MIB = 1024 * 1024
JOURNAL_BYTES, JOURNAL_SHARE = 8 * MIB, 16
"""What is left free under the bound for the journal and for rows that come while others are deleted: the larger of
8 MiB and a sixteenth."""
ROW_BYTES = 185
"""What a labelled row without inputs and groups takes in SQLite, indexes included; measured over 200,000."""
POSTGRESQL_ROW_BYTES = 200
"""What PostgreSQL adds to the columns of a labelled row: headers, four indexes, the outcome; measured over 40,000."""
SAMPLE_ROWS, ENOUGH_ROWS = 1000, 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is to show of the store: sizes in bytes, and the time of its oldest row; by default, of none."""

    bytes: float = 0.0
    max_bytes: int = 0
    oldest: float = math.nan
    files_lost: int = 0


class Retention:
    """Deletes in small steps, each a short transaction, so that neither feedback nor predictions wait for it.

    On SQLite the bound holds for the file: deleted rows leave free pages, which new rows take, so that the file does
    not grow beyond the bound; a file that is larger already keeps its size. On PostgreSQL the bound holds for an
    estimate: this model's rows times what a row takes. The space of deleted rows is PostgreSQL's to use again.
    """

    def __init__(self, store: Store, config: StoreConfig, count: Callable[[str, int], None]) -> None:
        """Keep a store within a config; ``count`` is told how many rows were deleted for ``age`` or for ``size``."""
        self._store, self._count = store, count
        self._keep_seconds, self._max_bytes = config.retention_days * DAY_SECONDS, config.max_bytes
        self._limit = config.max_bytes - max(JOURNAL_BYTES, config.max_bytes // JOURNAL_SHARE)
        self._announced = False
        self._age_at = self._size_at = self._oldest_at = self._stuck_until = time.monotonic()
        self._bytes, self._oldest, self._excess_rows = math.nan, math.nan, 0

    @property
    def figures(self) -> Figures:
        """What is known now; the size of SQLite's files is looked up."""
        database = self._store.database
        size = self._bytes if database.file is None else float(database.file.bytes())
        return Figures(size, self._max_bytes, self._oldest, database.files_lost)

    def keep(self) -> None:
        """Delete one step of what is too old and one of what is too much; to be called now and then.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        now = time.monotonic()
        if not self._announced:
            self._announce()
        if self._age_at <= now:
            gone = self._store.purge(time.time() - self._keep_seconds)
            self._count("age", gone)
            self._age_at = now + (AGAIN_SECONDS if gone >= OLD_ROWS else LOOK_SECONDS)
        if self._stuck_until <= now and self._is_over(now):
            gone = self._store.purge_oldest()
            self._count("size", gone)
            self._excess_rows -= gone
            self._stuck_until = now if gone else now + LOOK_SECONDS  # what is left is not made of rows
            self._oldest_at = now
        if self._oldest_at <= now:
            self._oldest = self._store.query(self._find_oldest)
            self._oldest_at = now + OLDEST_SECONDS

    def _is_over(self, now: float) -> bool:
        if self._store.database.file is not None:
            self._bytes = self._store.query(_live_bytes)
            return self._bytes > self._limit
        if self._size_at <= now and self._excess_rows <= 0:  # counting rows takes PostgreSQL a while
            rows, row_bytes = self._store.query(self._count_rows)
            self._bytes = rows * row_bytes
            self._excess_rows = math.ceil((self._bytes - self._limit) / row_bytes)
            self._size_at = now + LOOK_SECONDS
        return self._excess_rows > 0

    def _announce(self) -> None:
        rows, row_bytes = self._store.query(self._count_rows)
        LOG.info(
            "the store keeps rows for at most %g days or %.0f MiB, at %.0f bytes a row about %.1f million rows, "
            "of which it has %d", self._keep_seconds / DAY_SECONDS, self._max_bytes / MIB, row_bytes,
            self._limit / row_bytes / 1e6, rows,
        )  # fmt: skip
        file = self._store.database.file
        if file is not None and (size := file.bytes()) > self._max_bytes:
            LOG.warning(
                "%s has %.0f MiB, more than store.max_bytes: the oldest rows are deleted, new rows take their space, "
                "but the file stays as large until somebody runs VACUUM on it", file.path, size / MIB,
            )  # fmt: skip
        self._announced = True

    def _count_rows(self, connection: Connection) -> tuple[int, float]:
        """Count this model's rows, and estimate the bytes of one."""
        if self._store.database.file is not None:  # whose rows are numbered one after the other, and deleted in order
            number = PREDICTIONS.c.prediction
            first, last = connection.execute(select(func.min(number), func.max(number))).one()
            rows = 0 if first is None else last - first + 1
            return rows, _live_bytes(connection) / rows if rows >= ENOUGH_ROWS else ROW_BYTES
        own = PREDICTIONS.c.model == self._store.edition.model
        rows = connection.execute(select(func.count()).select_from(PREDICTIONS).where(own)).scalar_one()
        newest = select(PREDICTIONS.c.prediction).where(own).order_by(PREDICTIONS.c.time.desc()).limit(SAMPLE_ROWS)
        columns = func.avg(func.pg_column_size(text("predictions.*")))
        of_columns = connection.execute(select(columns).where(PREDICTIONS.c.prediction.in_(newest))).scalar()
        return rows, float(of_columns or 0) + POSTGRESQL_ROW_BYTES

    def _find_oldest(self, connection: Connection) -> float:
        own = PREDICTIONS.c.model == self._store.edition.model
        oldest = select(PREDICTIONS.c.time).where(own).order_by(PREDICTIONS.c.time).limit(1)
        found = connection.execute(oldest).scalar()
        return math.nan if found is None else float(found)


def _live_bytes(connection: Connection) -> int:
    """Measure the pages of a SQLite file that hold something."""
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
