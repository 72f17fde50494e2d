"""What outlasts a process: predictions until their labels come, outcomes, exact totals, and what was decided."""

import math
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import orjson
from sqlalchemy import Connection, delete, func, select

from guards.recent import cut
from guards.records import Records
from service.columns import Block, Remembered, Truth, key_of
from service.database import AgainError, Database, FileLostError, StoreDownError
from service.editions import Edition, enrol, migrate
from service.statements import ROWS, Statements
from service.tables import DECISIONS, EDITIONS, PREDICTIONS
from service.tallies import Tallies
from service.totals import Owner, Part, Scope, Sums, Totals

__all__ = ["Store", "Tally", "Verdict"]

T = TypeVar("T")
Tally = Callable[[Records], Tallies]
OLD_ROWS = 5000
"""How many rows one transaction deletes."""
Known = tuple[Remembered, tuple[str | None, float | None] | None]
"""A prediction, and the label and value of its outcome where there is one."""


@dataclass(slots=True)
class Verdict:
    """What became of outcomes, by their place in the list.

    ``parts`` are the accepted and the replacing ones that belong to the served bundle.
    """

    accepted: list[int] = field(default_factory=list)
    duplicate: list[int] = field(default_factory=list)
    conflicting: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


class Store:
    """One model's part of a database; every method may be called from any thread."""

    def __init__(self, database: Database, edition: Edition) -> None:
        self.database, self.edition = database, edition
        self._preparing = threading.Lock()
        self._edition: int | None = None
        self._editions: dict[int, tuple[Owner, Mapping[str, str]]] = {}
        self._sql = Statements(database.engine.dialect.name)
        self._totals = Totals(self._sql, edition)

    @property
    def shared(self) -> bool:
        """Whether other servers may be writing to the same database."""
        return self.database.shared

    def prepare(self) -> None:
        """Bring the tables up to date and write down what is served; done once, by any other method too.

        Raises:
            StoreDownError: the database cannot be reached, or is of a later version of this program.
        """
        with self._preparing:
            if self._edition is None:
                self._edition = self.database.write(self._prepare)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction, once the tables are there.

        Raises:
            StoreDownError: the database cannot be reached; whether the work is done, nobody knows.
        """
        return self._done(self.database.write, work)

    def query(self, work: Callable[[Connection], T]) -> T:
        """Do work that only reads, once the tables are there.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        return self._done(self.database.read, work)

    def _done(self, way: Callable[[Callable[[Connection], T]], T], work: Callable[[Connection], T]) -> T:
        """Do it once more if the file was lost: then the one at its path has other tables, or none."""
        for last in (False, True):
            try:
                self.prepare()
                return way(work)
            except StoreDownError as down:
                with self._preparing:  # the database that comes back may be another one
                    self._edition = None
                    self._editions.clear()
                if last or not isinstance(down, FileLostError):
                    raise
        raise AssertionError("unreachable")

    def _prepare(self, connection: Connection) -> int:
        migrate(connection)
        return enrol(connection, self.edition)

    # Predictions

    def write(self, block: Block, tallies: Tallies, tally: Tally) -> int:
        """Store a block's rows, add ``tallies`` of them to the totals, and tell how many rows were new.

        A row whose id is there already is neither stored nor counted: so a block that is written again, because
        nobody knows whether the first time worked, counts once. Where not all rows are new, ``tally`` counts those
        that are.

        Raises:
            StoreDownError: the database cannot be reached; the block may be written again.
        """
        return self.transact(lambda connection: self._write(connection, block, tallies, tally))

    def _write(self, connection: Connection, block: Block, tallies: Tallies, tally: Tally) -> int:
        ours = {"model": self.edition.model, "edition": self._edition}
        new = set(connection.execute(self._sql.predictions, {ROWS: _text(block.predictions), **ours}).scalars().all())
        if block.decisions is not None:
            connection.execute(self._sql.decisions, {ROWS: _text(block.decisions), **ours})
        if 0 < len(new) < len(block):
            tallies = tally(block.records.take([row for row in block.firsts if block.keys[row] in new]))
        if new:
            self._totals.add(connection, self._totals.owner, "answers", [Part(len(new), tallies)])
        return len(new)

    # Outcomes

    def join(self, truths: Sequence[Truth], tally: Tally) -> Verdict:
        """Store outcomes of known predictions, and add them to the totals: once, whoever sends them how often.

        Raises:
            StoreDownError: the database cannot be reached; nobody knows whether they are stored: send them again.
        """
        return self.transact(lambda connection: self._join(connection, truths, tally))

    def _join(self, connection: Connection, truths: Sequence[Truth], tally: Tally) -> Verdict:
        verdict = Verdict()
        keys = [key_of(truth.id) for truth in truths]
        found = self._found(connection, sorted(set(keys)))
        fresh: dict[str, int] = {}
        chains: dict[str, list[int]] = {}
        for place, (key, truth) in enumerate(zip(keys, truths, strict=True)):
            if key not in found:
                verdict.unknown.append(place)
                continue
            known = found[key][1]
            if key in chains or key in fresh:  # what this very list said last
                last = truths[chains[key][-1] if key in chains else fresh[key]]
                known = (last.label, last.value)
            if known is None:
                fresh[key] = place
            elif truth.agrees(*known):
                verdict.duplicate.append(place)
            elif truth.replace:
                chains.setdefault(key, []).append(place)
                verdict.replaced.append(place)
            else:
                verdict.conflicting.append(place)
        places = {found[key][0].prediction: place for key, place in fresh.items()}
        stored = self._store(connection, places, truths)
        if len(stored) < len(places):  # another server was faster, and its outcome is committed: look again
            raise AgainError
        rows = [found[key][0] for key in fresh]
        verdict.accepted = list(fresh.values())
        accepted = [truths[place] for place in verdict.accepted]
        verdict.parts = self._learn(connection, rows, accepted, tally)
        if chains:
            expected = {
                key: truths[fresh[key]] if key in fresh else Truth("", *(found[key][1] or ())) for key in chains
            }
            chained = {found[key][0]: (expected[key], *(truths[place] for place in chains[key])) for key in chains}
            verdict.parts += self._replace(connection, chained, tally)
        return verdict

    def _replace(
        self, connection: Connection, chains: Mapping[Remembered, Sequence[Truth]], tally: Tally
    ) -> list[Part]:
        """Put outcomes in the place of others, which are kept as corrections; give the new parts of the served bundle.

        ``chains`` gives for each prediction what is stored and what was said after that, in order; the last holds.
        """
        now = time.time()
        rows = sorted(chains, key=lambda row: row.prediction)
        asked = {ROWS: _text(orjson.dumps([row.prediction for row in rows]))}
        locked = connection.execute(self._sql.lock, asked).all()
        old = [Truth("", label, value, probability) for _, _, label, value, probability in locked]
        stored = {row.prediction: (truth.label, truth.value) for row, truth in zip(locked, old, strict=True)}
        if any(stored.get(row.prediction) != _said(chains[row][0])[:2] for row in rows):
            raise AgainError  # another server was faster: look again
        kept = [(prediction, since, now, *said) for prediction, since, *said in locked]
        for row in rows:
            kept += [(row.prediction, now, now, *_said(truth)) for truth in chains[row][1:-1]]
        new = [chains[row][-1] for row in rows]
        corrected = [(row.prediction, *_said(truth)) for row, truth in zip(rows, new, strict=True)]
        connection.execute(self._sql.corrections, {ROWS: _text(orjson.dumps(kept))})
        connection.execute(self._sql.correct, {ROWS: _text(orjson.dumps(corrected)), "now": now})
        return self._move(connection, rows, old, new, tally)

    def _found(self, connection: Connection, keys: Sequence[str]) -> dict[str, Known]:
        asked = {ROWS: _text(orjson.dumps(keys)), "model": self.edition.model}
        return {
            key: (Remembered(*row), None if known is None else (label, value))
            for key, known, label, value, *row in connection.execute(self._sql.find, asked).all()
        }

    def _store(self, connection: Connection, places: Mapping[int, int], truths: Sequence[Truth]) -> set[int]:
        if not places:
            return set()
        rows = [(prediction, *_said(truths[place])) for prediction, place in sorted(places.items())]
        bound = {ROWS: _text(orjson.dumps(rows)), "now": time.time()}
        return set(connection.execute(self._sql.outcomes, bound).scalars().all())

    def _learn(
        self, connection: Connection, rows: Sequence[Remembered], truths: Sequence[Truth], tally: Tally
    ) -> list[Part]:
        """Add outcomes to the totals and to the last blocks; give the parts of the served bundle."""
        learnt: list[Part] = []
        for owner, alike, records in self._by_edition(connection, rows, truths):
            cuts = cut(len(records), self._totals.room(connection, owner, "outcomes"))
            parts = [_part(records.take(rows_of_part), tally, alike) for rows_of_part in cuts]
            self._totals.add(connection, owner, "outcomes", parts)
            if owner == self._totals.owner:
                learnt += parts
        return learnt

    def _move(
        self,
        connection: Connection,
        rows: Sequence[Remembered],
        old: Sequence[Truth],
        new: Sequence[Truth],
        tally: Tally,
    ) -> list[Part]:
        """Take old outcomes out of the totals and put new ones in; give the new parts of the served bundle.

        The blocks of the last labels stay as the labels first came: nobody knows which block has an old outcome.
        """
        moved: list[Part] = []
        before, after = (self._by_edition(connection, rows, truths) for truths in (old, new))
        for (owner, alike, replaced), (_, _, replacing) in zip(before, after, strict=True):
            taken, given = _part(replaced, tally, alike), _part(replacing, tally, alike)
            self._totals.move(connection, owner, taken.tallies, given.tallies)
            if owner == self._totals.owner:
                moved.append(given)
        return moved

    def _by_edition(
        self, connection: Connection, rows: Sequence[Remembered], truths: Sequence[Truth]
    ) -> Iterator[tuple[Owner, set[str], Records]]:
        """Give whose the rows are, the monitors that count them as today's do, and the rows with their outcomes."""
        by_edition: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_edition.setdefault(row.edition, []).append(place)
        for edition, places in by_edition.items():
            owner, layouts = self._known(connection, edition)
            alike = {name for name, layout in self.edition.layouts.items() if layouts.get(name) == layout}
            if alike:  # a monitor whose places mean something else now has no counts for these rows
                known, told = [rows[place] for place in places], [truths[place] for place in places]
                yield owner, alike, Remembered.records(known, told, self.edition.classes)

    def _known(self, connection: Connection, edition: int) -> tuple[Owner, Mapping[str, str]]:
        known = self._editions.get(edition)
        if known is None:
            of = EDITIONS.c
            asked = select(of.version, of.bundle, of.layouts).where(of.edition == edition)
            row = connection.execute(asked).one()
            known = self._editions[edition] = (Owner(row.version, row.bundle), row.layouts)
        return known

    # Reading and clearing away

    def totals(self, scope: Scope = "bundle") -> Sums:
        """Sum up what all servers counted of the rows of the served bundle, or of a wider scope.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        return self.query(lambda connection: self._totals.read(connection, scope))

    def purge(self, before: float) -> int:
        """Delete some predictions, with their outcomes, and decisions of a time ``before``; return how many.

        Fewer than :data:`OLD_ROWS` means that none is left.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        return self.transact(lambda connection: self._purge(connection, before))

    def purge_oldest(self) -> int:
        """Delete the oldest predictions, with their outcomes, and decisions, at most one step; return how many.

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


def _said(truth: Truth) -> tuple[str | None, float | None, float | None]:
    return truth.label, truth.value, truth.probability


def _part(records: Records, tally: Tally, monitors: Container[str]) -> Part:
    """Count rows with those monitors."""
    return Part(len(records), {name: counts for name, counts in tally(records).items() if name in monitors})


def _text(rows: bytes) -> str:
    return rows.decode("utf-8")
