"""Connects to SQLite or PostgreSQL, runs transactions, and sorts the database's errors by what to do about them."""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from guards.errors import Mistake
from service.monitoring.sums import NoSumsError
from service.store.sqlite_file import Identity, SqliteFile
from service.store.trouble import trouble_of

__all__ = ["AgainError", "Database", "FileLostError", "StoreDownError"]

LOG = logging.getLogger("guardhouse")
T = TypeVar("T")
SQLITE_AT_LEAST = (3, 38, 0)
"""The first version that has json_each and RETURNING in every build."""
BUSY_SECONDS, CONNECT_SECONDS, LOST_MILLISECONDS = 10.0, 3, 10_000
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5}
"""After how many seconds without a byte, and how often, the kernel asks whether PostgreSQL's host is still there."""
BUSY_POLL_SECONDS = 0.01
JOURNAL_BYTES = 4 * 1024 * 1024
"""If a transaction makes the journal longer than this many bytes, SQLite truncates the journal afterwards."""
PRIMARY_CODE = 0xFF  # the bits of an extended SQLite result code that hold the primary code
AGAIN = ("40001", "40P01")
"""The SQLSTATE codes of errors after which the transaction is tried again: serialization failure, deadlock."""
TRIES = 5
READS, OUTSIDE = "guardhouse_reads", "guardhouse_outside"
"""The options of a connection that only reads, and of a connection that begins no transaction."""
OPENED = "guardhouse_opened"
"""The key of a connection's record under which the identity of its files is kept."""


class StoreDownError(NoSumsError):
    """The database cannot be reached, or refuses a statement; a later try may succeed."""


class FileLostError(StoreDownError):
    """The SQLite file was deleted or replaced while it was open. The next transaction uses the file now at the path.

    The work in the lost file is not stored. The new file may not have the tables yet.
    """


class AgainError(Exception):
    """Another server's transaction came in between. The same work has to be done again on the changed rows."""


class Database:
    """A database that is connected to at its first use, so that a server starts even if the database is down."""

    def __init__(self, url: URL) -> None:
        """Prepare to connect.

        Raises:
            Mistake: this Python's SQLite is too old, or the file's folder cannot be written to.
        """
        self.shared = url.get_backend_name() == "postgresql"
        """Whether other servers may also write to the database."""
        self.files_lost = 0
        """How often the SQLite file was found deleted or replaced."""
        self.file: SqliteFile | None = None
        if self.shared:
            wait = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": LOST_MILLISECONDS, **KEEPALIVE}
            self.engine = create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=wait)
        else:
            _check_sqlite(url)
            self.engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})
            self.file = SqliteFile(url)
            event.listen(self.engine, "do_connect", self._make_folder)
            event.listen(self.engine, "connect", self._set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        # SQLite allows one writer at a time, and polls for its turn. Waiting for this lock is cheaper.
        self._turn: AbstractContextManager[Any] = nullcontext() if self.shared else threading.Lock()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction, and do it again if another server's transaction came in between.

        Raises:
            FileLostError: the SQLite file was deleted or replaced; the work is not done.
            StoreDownError: the database cannot be reached. The work may or may not be done.
        """
        for _ in range(TRIES):
            try:
                with _errors_sorted(), self._turn, self._reconnects_after_error():
                    with self.engine.begin() as connection:
                        opened = connection.info.get(OPENED)
                        self._check_file(opened)
                        done = work(connection)
                    self._check_file(opened)  # a second check, because the file may have been deleted before the commit
                    return done
            except AgainError:
                continue
        raise StoreDownError("other servers' transactions keep coming in between")

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do work that only reads.

        Raises:
            FileLostError: the SQLite file was deleted or replaced.
            StoreDownError: the database cannot be reached.
        """
        with (
            _errors_sorted(),
            self._reconnects_after_error(),
            self.engine.connect().execution_options(**{READS: True}) as connection,
        ):
            self._check_file(connection.info.get(OPENED))
            return work(connection)

    def empty_journal(self) -> bool:
        """Empty SQLite's journal, which has deleted rows; return false if somebody reads the database just now.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        if self.file is None:
            return True
        with (
            _errors_sorted(),
            self._turn,
            self._reconnects_after_error(),
            self.engine.connect().execution_options(**{OUTSIDE: True}) as connection,
        ):
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")
            return not busy

    def _make_folder(self, *_: object) -> None:
        assert self.file is not None  # noqa: S101 - this listens to SQLite's engine alone
        folder = self.file.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as refused:
            raise StoreDownError(f"{folder} cannot be made: {refused.strerror}") from None

    def _set_up_sqlite(self, connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        assert self.file is not None  # noqa: S101 - this listens to SQLite's engine alone
        connection.isolation_level = (
            None  # transactions begin only at our own BEGIN, not where the sqlite3 module guesses
        )
        _use_wal(connection)
        # With FULL, SQLite syncs the journal (WAL) at every commit, so that a committed row survives a loss of power.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, and not only forgotten
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        connection.execute(
            "SELECT count(*) FROM sqlite_master"
        ).fetchone()  # this read makes SQLite create all three files
        record.info[OPENED] = self.file.identity()

    def _check_file(self, opened: Identity | None) -> None:
        if self.file is None or opened == self.file.identity():
            return
        self.files_lost += 1
        LOG.error(
            "%s was deleted or replaced while it was open: the rows and outcomes in the lost file are gone; from now "
            "on, the file at that path is used, and a new file is made if there is none", self.file.path,
        )  # fmt: skip
        raise FileLostError(f"{self.file.path} was deleted or replaced")

    @contextmanager
    def _reconnects_after_error(self) -> Iterator[None]:
        """Close SQLite's connections after an error, since a connection to a lost or read-only file stays useless."""
        try:
            yield
        except (DBAPIError, FileLostError):
            if self.file is not None:
                self.engine.dispose()
            raise

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()


@contextmanager
def _errors_sorted() -> Iterator[None]:
    """Sort errors: AgainError to try again, DataError for wrong data, StoreDownError for trouble of the database."""
    try:
        yield
    except DataError:
        raise
    except SQLAlchemyError as error:
        cause = (error.orig if isinstance(error, DBAPIError) else None) or error
        if isinstance(error, IntegrityError) or getattr(cause, "sqlstate", None) in AGAIN:
            raise AgainError from None
        raise StoreDownError(trouble_of(cause)) from None


def _check_sqlite(url: URL) -> None:
    if sqlite3.sqlite_version_info < SQLITE_AT_LEAST:
        wanted = ".".join(map(str, SQLITE_AT_LEAST))
        raise Mistake(
            f"store: this Python has SQLite {sqlite3.sqlite_version}, and {wanted} is the least: use another Python, "
            "name a PostgreSQL in GUARDHOUSE_DATABASE_URL, or set store.enabled to false"
        )
    folder = Path(url.database or "").parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise Mistake(
            f"store: {folder} cannot be written to: name another folder in GUARDHOUSE_STATE, or set store.enabled to "
            "false"
        )


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file to the journal mode WAL.

    If several servers switch at the same time, SQLite refuses at once and ignores its timeout, so this function waits.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as busy:
            if busy.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(BUSY_POLL_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    """Begin a transaction that writes with SQLite's write lock; if it took the lock later, SQLite might refuse."""
    options = connection.get_execution_options()
    if not options.get(OUTSIDE, False):
        connection.exec_driver_sql("BEGIN" if options.get(READS, False) else "BEGIN IMMEDIATE")
