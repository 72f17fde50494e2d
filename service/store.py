"""What outlasts a process: predictions until their labels come, outcomes, exact totals, and what was decided."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from sqlalchemy import Connection, delete, select

from guards.recent import cut
from guards.records import Records
from service.columns import Block, Remembered, Truth, key_of
from service.database import AgainError, Database
from service.editions import Edition, enrol, migrate
from service.statements import ROWS, Statements
from service.tables import DECISIONS, EDITIONS, PREDICTIONS
from service.tallies import Tallies
from service.totals import Owner, Part, Scope, Sums, Totals

__all__ = ["Store", "Tally", "Verdict"]

Tally = Callable[[Records], Tallies]
OLD_ROWS = 5000
"""How many rows one transaction deletes."""
Known = tuple[Remembered, tuple[str | None, float | None] | None]
"""A prediction, and the label and value of its outcome where there is one."""


@dataclass(slots=True)
class Verdict:
    """What became of outcomes, by their place in the list; ``parts`` are the accepted ones of the served bundle."""

    accepted: list[int] = field(default_factory=list)
    duplicate: list[int] = field(default_factory=list)
    conflicting: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
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
        self.prepare()
        return self.database.write(lambda connection: self._write(connection, block, tallies, tally))

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
        self.prepare()
        return self.database.write(lambda connection: self._join(connection, truths, tally))

    def _join(self, connection: Connection, truths: Sequence[Truth], tally: Tally) -> Verdict:
        verdict = Verdict()
        keys = [key_of(truth.id) for truth in truths]
        found = self._found(connection, sorted(set(keys)))
        fresh: dict[str, int] = {}
        for place, (key, truth) in enumerate(zip(keys, truths, strict=True)):
            if key not in found:
                verdict.unknown.append(place)
            elif (known := found[key][1]) is not None:
                (verdict.duplicate if truth.agrees(*known) else verdict.conflicting).append(place)
            elif key in fresh:
                first = truths[fresh[key]]
                (verdict.duplicate if truth.agrees(first.label, first.value) else verdict.conflicting).append(place)
            else:
                fresh[key] = place
        places = {found[key][0].prediction: place for key, place in fresh.items()}
        stored = self._store(connection, places, truths)
        if len(stored) < len(places):  # another server was faster, and its outcome is committed: look again
            raise AgainError
        rows = [found[key][0] for key in fresh]
        verdict.accepted = list(fresh.values())
        accepted = [truths[place] for place in verdict.accepted]
        self._learn(connection, verdict, rows, accepted, tally)
        return verdict

    def _found(
        self, connection: Connection, keys: Sequence[str]
    ) -> dict[str, tuple[Remembered, tuple[str | None, float | None] | None]]:
        asked = {ROWS: _text(orjson.dumps(keys)), "model": self.edition.model}
        return {
            key: (Remembered(*row), None if known is None else (label, value))
            for key, known, label, value, *row in connection.execute(self._sql.find, asked).all()
        }

    def _store(self, connection: Connection, places: Mapping[int, int], truths: Sequence[Truth]) -> set[int]:
        if not places:
            return set()
        rows = [(prediction, truths[place].label, truths[place].value, truths[place].probability)
                for prediction, place in sorted(places.items())]  # fmt: skip
        bound = {ROWS: _text(orjson.dumps(rows)), "now": time.time()}
        return set(connection.execute(self._sql.outcomes, bound).scalars().all())

    def _learn(
        self,
        connection: Connection,
        verdict: Verdict,
        rows: Sequence[Remembered],
        truths: Sequence[Truth],
        tally: Tally,
    ) -> None:
        by_edition: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_edition.setdefault(row.edition, []).append(place)
        for edition, places in by_edition.items():
            owner, layouts = self._known(connection, edition)
            alike = {name for name, layout in self.edition.layouts.items() if layouts.get(name) == layout}
            if not alike:  # a monitor whose places mean something else now has no counts for these rows
                continue
            records = Remembered.records(
                [rows[place] for place in places], [truths[place] for place in places], self.edition.classes
            )
            parts = []
            for part in cut(len(records), self._totals.room(connection, owner, "outcomes")):
                some = records.take(part)
                tallies = {name: counts for name, counts in tally(some).items() if name in alike}
                parts.append(Part(len(some), tallies))
            self._totals.add(connection, owner, "outcomes", parts)
            if owner == self._totals.owner:
                verdict.parts += parts

    def _known(self, connection: Connection, edition: int) -> tuple[Owner, Mapping[str, str]]:
        if edition not in self._editions:
            of = EDITIONS.c
            asked = select(of.version, of.bundle, of.layouts).where(of.edition == edition)
            row = connection.execute(asked).one()
            self._editions[edition] = (Owner(row.version, row.bundle), row.layouts)
        return self._editions[edition]

    # Reading and clearing away

    def totals(self, scope: Scope = "bundle") -> Sums:
        """Sum up what all servers counted of the rows of the served bundle, or of a wider scope.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        self.prepare()
        return self.database.read(lambda connection: self._totals.read(connection, scope))

    def purge(self, before: float) -> bool:
        """Delete some predictions, with their outcomes, and decisions of a time ``before``; tell whether more are left.

        Raises:
            StoreDownError: the database cannot be reached.
        """
        self.prepare()
        return self.database.write(lambda connection: self._purge(connection, before))

    def _purge(self, connection: Connection, before: float) -> bool:
        most = 0
        for table in (PREDICTIONS, DECISIONS):
            (key,) = table.primary_key
            old = select(key).where(table.c.model == self.edition.model, table.c.time < before).limit(OLD_ROWS)
            most = max(most, connection.execute(delete(table).where(key.in_(old))).rowcount)
        return most == OLD_ROWS


def _text(rows: bytes) -> str:
    return rows.decode("utf-8")
