"""SQLite or PostgreSQL: how to reach it, one transaction at a time, and what its errors mean."""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from guards.types import Mistake
from service.sqlite_file import Identity, SqliteFile

__all__ = ["AgainError", "Database", "FileLostError", "StoreDownError", "parse_url"]

LOG = logging.getLogger("guardhouse")
T = TypeVar("T")
SQLITE_AT_LEAST = (3, 38, 0)
"""The first that has json_each and RETURNING in every build."""
BUSY_SECONDS, CONNECT_SECONDS, LOST_MILLISECONDS = 10.0, 3, 10_000
BUSY_POLL_SECONDS = 0.01
JOURNAL_BYTES = 4 * 1024 * 1024
"""To what the journal is cut back after a transaction that made it longer."""
PRIMARY_CODE = 0xFF  # of an extended result code of SQLite's
AGAIN = ("40001", "40P01")
"""SQLSTATE of what is right when done again: serialization failure, deadlock."""
TRIES = 5
READS = "guardhouse_reads"
OPENED = "guardhouse_opened"
"""Under this name a connection remembers which files it opened."""


class StoreDownError(Exception):
    """The database cannot be reached, or does not do what it is asked; it may again later."""


class FileLostError(StoreDownError):
    """The SQLite file was deleted or replaced while it was open: the next transaction is done in the file at its path.

    What was done in the lost file is not stored; the tables of the new file may have to be made first.
    """


class AgainError(Exception):
    """Another server's transaction came in between; the same once more will see what it did."""


class Database:
    """Connects at its first use: a database that is down does not keep a server from starting."""

    def __init__(self, url: URL) -> None:
        """Prepare to connect.

        Raises:
            Mistake: this Python's SQLite is too old, or the file's folder cannot be written to.
        """
        self.shared = url.get_backend_name() == "postgresql"
        """Whether other servers may be writing to it, too."""
        self.files_lost = 0
        """How often the SQLite file was found deleted or replaced."""
        self.file: SqliteFile | None = None
        if self.shared:
            wait = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": LOST_MILLISECONDS}
            self.engine = create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=wait)
        else:
            _check_sqlite(url)
            self.engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})
            self.file = SqliteFile(url)
            event.listen(self.engine, "do_connect", self._make_folder)
            event.listen(self.engine, "connect", self._set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        # SQLite has one writer at a time: to wait here is cheaper than its polling.
        self._turn: AbstractContextManager[Any] = nullcontext() if self.shared else threading.Lock()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction, and once more where another server's came in between.

        Raises:
            FileLostError: the SQLite file was deleted or replaced: the work is not done.
            StoreDownError: the database cannot be reached; whether the work is done, nobody knows.
        """
        for _ in range(TRIES):
            try:
                with _told(), self._turn, self._anew_after_trouble():
                    with self.engine.begin() as connection:
                        opened = connection.info.get(OPENED)
                        self._check_file(opened)
                        done = work(connection)
                    self._check_file(opened)  # again: the file may have gone before the commit
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
            _told(),
            self._anew_after_trouble(),
            self.engine.connect().execution_options(**{READS: True}) as connection,
        ):
            self._check_file(connection.info.get(OPENED))
            return work(connection)

    def _make_folder(self, *_: object) -> None:
        assert self.file is not None  # noqa: S101 - this listens to SQLite's engine alone
        folder = self.file.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as refused:
            raise StoreDownError(f"{folder} cannot be made: {refused.strerror}") from None

    def _set_up_sqlite(self, connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        assert self.file is not None  # noqa: S101 - this listens to SQLite's engine alone
        connection.isolation_level = None  # transactions begin where we say, and not where Python guesses
        _use_wal(connection)
        # With the journal beside it, FULL syncs at every commit: what was acknowledged outlasts a loss of power.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # by now all three files are there
        record.info[OPENED] = self.file.identity()

    def _check_file(self, opened: Identity | None) -> None:
        if self.file is None or opened == self.file.identity():
            return
        self.files_lost += 1
        LOG.error(
            "%s was deleted or replaced while it was open: rows and outcomes in the lost file are no longer here, and "
            "the file at that path is used from now on, made anew if there is none", self.file.path,
        )  # fmt: skip
        raise FileLostError(f"{self.file.path} was deleted or replaced")

    @contextmanager
    def _anew_after_trouble(self) -> Iterator[None]:
        """Close SQLite's connections after an error: one to a lost file, or opened read-only, would stay useless."""
        try:
            yield
        except (DBAPIError, FileLostError):
            if self.file is not None:
                self.engine.dispose()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()


@contextmanager
def _told() -> Iterator[None]:
    """Tell apart what may be done again, what is a mistake in the data, and what is the database's trouble."""
    try:
        yield
    except DataError:
        raise
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(error, IntegrityError) or getattr(cause, "sqlstate", None) in AGAIN:
            raise AgainError from None
        # The first line: those after it may quote rows.
        raise StoreDownError(f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}") from None


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
    """Switch a new file's journal; where servers do so at once SQLite refuses without waiting, whatever its timeout."""
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
    """Take the right to write at once: a transaction that asks for it later may be refused."""
    reads = connection.get_execution_options().get(READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def parse_url(given: str) -> URL:
    """Read the URL of a database.

    >>> str(parse_url("postgresql://app@db/guardhouse"))
    'postgresql+psycopg://app@db/guardhouse'

    Raises:
        Mistake: it is none, or of a database that is not supported; the sentence does not quote it.
    """
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise Mistake(
            "GUARDHOUSE_DATABASE_URL: not a URL such as postgresql://user:password@host/database; a password's "
            "special characters are written as %XX"
        ) from None
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return url
    raise Mistake(
        f"GUARDHOUSE_DATABASE_URL: {url.drivername!r} is not supported; there are postgresql://... and "
        "sqlite:////path/of/a/file"
    )
