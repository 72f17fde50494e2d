"""Retention: deletes stored rows that are too old, and the oldest rows if the store takes too many bytes."""

import logging
import math
import time
from collections.abc import Callable

from sqlalchemy import Connection, UnaryExpression, func, select, text

from guards.config.store import StoreConfig
from service.steady_clock import SteadyClock
from service.store.prediction_log import OLD_ROWS, Store
from service.store.tables import PREDICTIONS
from service.telemetry.store_figures import StoreFigures

__all__ = ["Retention"]

LOG = logging.getLogger("guardhouse")
LOOK_SECONDS, AGAIN_SECONDS = 600.0, 0.5
OLDEST_SECONDS = 10.0
DAY_SECONDS = 86400.0
MIB = 1024 * 1024
JOURNAL_BYTES, JOURNAL_SHARE = 8 * MIB, 16
"""How many bytes below the limit stay free, for the journal and for rows that arrive during a deletion: 8 MiB or a
sixteenth of the limit, whichever is larger."""
ROW_BYTES = 185
"""The bytes of a labelled row without inputs and groups in SQLite, with its indexes; measured over 200,000 rows."""
POSTGRESQL_ROW_BYTES = 200
"""The bytes that PostgreSQL adds to the columns of a labelled row: headers, four indexes and the outcome; measured over
40,000 rows."""
SAMPLE_ROWS, ENOUGH_ROWS = 1000, 1000


class Retention:
    """Deletes rows in small steps, each a short transaction, so that feedback and predictions never wait long.

    On SQLite the limit applies to the file. Deleted rows leave free pages, and new rows use these pages, so the file
    does not grow beyond the limit. A file that is already larger keeps its size. On PostgreSQL the limit applies to an
    estimate: the number of this model's rows times the bytes of a row. PostgreSQL itself reuses the space of deleted
    rows.
    """

    def __init__(
        self, store: Store, config: StoreConfig, count: Callable[[str, int], None], clock: SteadyClock
    ) -> None:
        """Apply a config's limits; ``count`` gets the reason (``age`` or ``size``) and the number of deleted rows.

        The age of rows goes by ``clock``.
        """
        self._store, self._count, self._clock = store, count, clock
        self._keep_seconds, self._max_bytes = config.retention_days * DAY_SECONDS, config.max_bytes
        self._limit = config.max_bytes - max(JOURNAL_BYTES, config.max_bytes // JOURNAL_SHARE)
        self._announced = False
        self._age_at = self._size_at = self._oldest_at = self._stuck_until = time.monotonic()
        self._bytes, self._oldest, self._excess_rows = math.nan, math.nan, 0

    @property
    def figures(self) -> StoreFigures:
        """The store's current figures; the size of SQLite's files is measured at each call."""
        database = self._store.database
        size = self._bytes if database.file is None else float(database.file.bytes())
        return StoreFigures(size, self._max_bytes, self._oldest, database.files_lost)

    def keep(self) -> None:
        """Delete one step of rows that are too old, and one step of rows that are too many; call this regularly.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        now = time.monotonic()
        if not self._announced:
            self._announce()
        if self._age_at <= now:
            gone = self._store.purge(self._clock.now() - self._keep_seconds)
            self._count("age", gone)
            self._age_at = now + (AGAIN_SECONDS if gone >= OLD_ROWS else LOOK_SECONDS)
        if self._stuck_until <= now and self._is_over(now):
            gone = self._store.purge_oldest()
            self._count("size", gone)
            self._excess_rows -= gone
            self._stuck_until = (
                now if gone else now + LOOK_SECONDS
            )  # nothing was deleted: what takes the space is not rows
            self._oldest_at = now
        if self._oldest_at <= now:
            self._oldest = self._store.query(self._find_oldest)
            self._oldest_at = now + OLDEST_SECONDS

    def _is_over(self, now: float) -> bool:
        if self._store.database.file is not None:
            self._bytes = self._store.query(_live_bytes)
            return self._bytes > self._limit
        if self._size_at <= now and self._excess_rows <= 0:  # PostgreSQL counts rows slowly, so seldom
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
        self._doubt_clock()
        self._announced = True

    def _doubt_clock(self) -> None:
        """Doubt the system's clock if by this clock every stored row is too old."""
        newest = self._store.query(lambda connection: self._find(connection, PREDICTIONS.c.time.desc()))
        if newest < self._clock.now() - self._keep_seconds:
            LOG.warning(
                "by the system's clock, every stored row is older than store.retention_days: if the clock is right, "
                "the rows are deleted when the clock has run steadily for a day"
            )
            self._clock.doubt(newest)

    def _count_rows(self, connection: Connection) -> tuple[int, float]:
        """Count this model's rows, and estimate the bytes of a row."""
        if self._store.database.file is not None:  # SQLite's rows have consecutive numbers, and are deleted in order
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
        return self._find(connection, PREDICTIONS.c.time.asc())

    def _find(self, connection: Connection, order: UnaryExpression[float]) -> float:
        """Give the first time of a stored row in an order; NaN if there are no rows."""
        own = PREDICTIONS.c.model == self._store.edition.model
        found = connection.execute(select(PREDICTIONS.c.time).where(own).order_by(order).limit(1)).scalar()
        return math.nan if found is None else float(found)


def _live_bytes(connection: Connection) -> int:
    """Return the bytes of a SQLite file's pages that are in use."""
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
