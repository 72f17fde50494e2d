"""The prediction log: stores predictions, decisions, outcomes and the monitors' totals of one model in the database."""

import math
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, delete, func, select

from service.messages.monitor_changes import Change, Changed, Standing
from service.messages.outcomes import Outcome
from service.messages.scope import Scope
from service.monitoring.sums import Sums, Tallies, Tally
from service.store.database import Database, FileLostError, StoreDownError
from service.store.exclusions import Exclusions
from service.store.monitor_changes import MonitorChanges
from service.store.outcomes import Learnt, Outcomes
from service.store.rows import Block
from service.store.served_versions import Edition, enrol, migrate
from service.store.statements import ROWS, Statements, json_of
from service.store.tables import DECISIONS, PREDICTIONS
from service.store.totals import Part, Totals

__all__ = ["OLD_ROWS", "Store"]

T = TypeVar("T")
OLD_ROWS = 5000
"""How many rows of a table one transaction deletes at most."""


class Store:
    """One model's part of a database. Any thread may call any method."""

    def __init__(self, database: Database, edition: Edition) -> None:
        self.database, self.edition = database, edition
        self._preparing = threading.Lock()
        self._edition: int | None = None
        self._sql = Statements(database.engine.dialect.name)
        self._totals = Totals(self._sql, edition)
        self._changes = MonitorChanges(edition)
        self._outcomes = Outcomes(self._sql, self._totals, edition, self._changes)
        self._exclusions = Exclusions(edition.model, self._changes, self._totals, self._outcomes)

    @property
    def shared(self) -> bool:
        """Whether other servers may be writing to the same database."""
        return self.database.shared

    def prepare(self) -> None:
        """Migrate the tables and record what is served. This happens once; every other method does it if needed.

        Raises:
            StoreDownError: the database cannot be reached, or is of a later version of this program.
        """
        with self._preparing:
            if self._edition is None:
                self._edition = self.database.write(self._prepare)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction, after the tables are prepared.

        Raises:
            StoreDownError: the database cannot be reached. The work may or may not be done.
        """
        return self._done(self.database.write, work)

    def query(self, work: Callable[[Connection], T]) -> T:
        """Do work that only reads, after the tables are prepared.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        return self._done(self.database.read, work)

    def _done(self, way: Callable[[Callable[[Connection], T]], T], work: Callable[[Connection], T]) -> T:
        """Do work, and do it again if the SQLite file was lost: the file now at its path may have no tables yet."""
        for last in (False, True):
            try:
                self.prepare()
                return way(work)
            except StoreDownError as down:
                with self._preparing:  # after trouble, the address may lead to another database
                    self._edition = None
                    self._outcomes.forget_editions()
                    self._changes.forget()
                if last or not isinstance(down, FileLostError):
                    raise
        raise AssertionError("unreachable")

    def _prepare(self, connection: Connection) -> int:
        migrate(connection)
        return enrol(connection, self.edition)

    # Predictions

    def write(self, block: Block, tallies: Tallies, tally: Tally) -> int:
        """Store a block's rows, add their ``tallies`` to the totals, and return how many rows were new.

        If a row's id is already stored, the row is neither stored nor counted. So a block may be written again after
        an error that left the result of the first try unknown. If only some rows are new, ``tally`` counts these rows.

        Raises:
            StoreDownError: the database cannot be reached; the block may be written again.
        """
        return self.transact(lambda connection: self._write(connection, block, tallies, tally))

    def _write(self, connection: Connection, block: Block, tallies: Tallies, tally: Tally) -> int:
        self._changes.share(connection)
        standing = self._changes.read(connection).standing
        excluded = block.owned_by(standing.excluded)
        ours = {"model": self.edition.model, "edition": self._edition}
        rows = {ROWS: block.predictions(excluded).decode(), **ours, "era": standing.number}
        new = set(connection.execute(self._sql.predictions, rows).scalars().all())
        if again := block.repeated(new):
            connection.execute(self._sql.repeated, {ROWS: json_of(again), "whose": self.edition.model})
        if block.decisions is not None:
            connection.execute(self._sql.decisions, {ROWS: block.decisions.decode(), **ours})
        counted = [row for row in block.firsts if block.keys[row] in new and not excluded[row]]
        records = block.records.take(counted)
        if 0 < len(counted) < len(block):
            tallies = tally(records)
        if counted:
            seen = len(records.counted_by_any(self.edition.layouts))
            self._totals.add(connection, self._totals.owner, "answers", [Part(seen, tallies)])
        return len(new)

    # Outcomes

    def join(self, truths: Sequence[Outcome], tally: Tally) -> Learnt:
        """Store outcomes of known predictions and add them to the totals.

        Each outcome counts once, however often it is sent.

        Raises:
            StoreDownError: the database cannot be reached. The outcomes may or may not be stored; send them again.
        """
        return self.transact(lambda connection: self._outcomes.join(connection, truths, tally))

    # Changes of the monitors

    def standing(self) -> Standing:
        """Give what all changes of the monitors amount to.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        return self.query(lambda connection: self._changes.read(connection).standing)

    def change(self, change: Change, tally: Tally) -> Changed:
        """Record a change of the monitors, and correct the totals.

        If this is interrupted, the change is recorded or not, and :meth:`sweep` corrects the totals later.

        Raises:
            StoreDownError: the database cannot be reached. The change may or may not be recorded.
        """
        standing = self.transact(lambda connection: self._change(connection, change))
        moved, place = 0, 0 if change.kind != "reset" else None
        while place is not None:
            rows, place = self.sweep(place, tally)
            moved += rows
        return Changed(standing, moved)

    def _change(self, connection: Connection, change: Change) -> Standing:
        self._changes.alone(connection)
        self._changes.add(connection, change)
        if change.kind == "reset":
            self._totals.forget(connection, change.subject)
        else:
            self._exclusions.begin_recent_anew(connection)
        return self._changes.read(connection).standing

    def sweep(self, start: int, tally: Tally) -> tuple[int, int | None]:
        """Take rows of excluded principals out of the totals, and put rows of included principals back.

        One call looks at some of the rows whose keys begin at ``start``. Returns how many rows were moved, and where to
        go on; None after the last row.

        Raises:
            StoreDownError: the database cannot be reached; the call may be repeated.
        """
        return self.transact(lambda connection: self._exclusions.sweep(connection, start, tally))

    # Reading and deleting

    def totals(self, scope: Scope = "bundle") -> Sums:
        """Give the totals of all servers over the rows of the served bundle, or of a wider scope.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        return self.query(lambda connection: self._totals.read(connection, scope))

    def purge(self, before: float) -> int:
        """Delete some predictions with their outcomes, and decisions, that are older than ``before``; return how many.

        If the number is less than :data:`OLD_ROWS`, no older row is left.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        return self.transact(lambda connection: self._purge(connection, before))

    def purge_oldest(self) -> int:
        """Delete the oldest predictions with their outcomes, and the oldest decisions; return how many.

        One call deletes at most :data:`OLD_ROWS` rows of each table.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        return self.transact(self._purge_oldest)

    def _purge_oldest(self, connection: Connection) -> int:
        cutoffs = []
        for table in (PREDICTIONS, DECISIONS):
            times = select(table.c.time).where(table.c.model == self.edition.model).order_by(table.c.time)
            oldest = times.limit(OLD_ROWS).subquery()
            cutoffs.append(connection.execute(select(func.max(oldest.c.time))).scalar())
        known = [cutoff for cutoff in cutoffs if cutoff is not None]
        return self._purge(connection, math.nextafter(min(known), math.inf)) if known else 0

    def _purge(self, connection: Connection, before: float) -> int:
        gone = 0
        for table in (PREDICTIONS, DECISIONS):
            (key,) = table.primary_key
            old = select(key).where(table.c.model == self.edition.model, table.c.time < before).limit(OLD_ROWS)
            gone += connection.execute(delete(table).where(key.in_(old))).rowcount
        return gone
