"""Joins outcomes with stored predictions: stores each outcome once, and adds it to the monitors' totals."""

import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from guards.monitors.answered_rows import Records
from guards.statistics.recent_blocks import cut
from service.messages.outcomes import Joined, Outcome
from service.monitoring.sums import Tally
from service.store.database import AgainError
from service.store.monitor_changes import MonitorChanges, Record
from service.store.remembered import Remembered
from service.store.served_versions import Edition
from service.store.statements import ROWS, Statements, json_of
from service.store.tables import EDITIONS
from service.store.totals import Owner, Part, Totals

__all__ = ["Learnt", "Outcomes", "part_of"]

Known = tuple[Remembered, tuple[str | None, float | None] | None]
"""A prediction, and the label and value of its outcome; None if there is no outcome yet."""


@dataclass(slots=True)
class Learnt(Joined):
    """What became of outcomes; ``parts`` counts the accepted and the replacing outcomes of the served bundle."""

    parts: list[Part] = field(default_factory=list)


class Outcomes:
    """Stores outcomes inside a transaction that the caller has begun."""

    def __init__(self, sql: Statements, totals: Totals, edition: Edition, changes: MonitorChanges) -> None:
        self._sql, self._totals, self._edition, self._changes = sql, totals, edition, changes
        self._editions: dict[int, tuple[Owner, Mapping[str, str]]] = {}

    def forget_editions(self) -> None:
        """Forget what was read of editions: the address of the database may lead to another database now."""
        self._editions.clear()

    def join(self, connection: Connection, truths: Sequence[Outcome], tally: Tally) -> Learnt:
        """Store outcomes of known predictions and add them to the totals; each outcome counts once.

        Raises:
            AgainError: another server has just changed an outcome of the same rows; the same work must be done again.
        """
        self._changes.share(connection)
        record = self._changes.read(connection)
        joined = Learnt()
        keys = [truth.id for truth in truths]
        found = self._found(connection, sorted(set(keys)))
        fresh: dict[str, int] = {}
        chains: dict[str, list[int]] = {}
        for place, (key, truth) in enumerate(zip(keys, truths, strict=True)):
            if key not in found:
                joined.unknown.append(place)
                continue
            row, known = found[key]
            if row.repeated:
                joined.repeated.append(place)
            if key in chains or key in fresh:  # an earlier outcome of the same list
                last = truths[chains[key][-1] if key in chains else fresh[key]]
                known = (last.label, last.value)
            if known is None:
                fresh[key] = place
            elif truth.agrees(*known):
                joined.duplicate.append(place)
            elif truth.replace:
                chains.setdefault(key, []).append(place)
                joined.replaced.append(place)
            else:
                joined.conflicting.append(place)
        places = {found[key][0].prediction: place for key, place in fresh.items()}
        stored = self._store(connection, places, truths)
        if len(stored) < len(places):  # another server has just committed an outcome of the same row: look again
            raise AgainError
        rows = [found[key][0] for key in fresh]
        joined.accepted = list(fresh.values())
        accepted = [truths[place] for place in joined.accepted]
        joined.parts = self._learn(connection, record, rows, accepted, tally)
        if chains:
            expected = {
                key: truths[fresh[key]] if key in fresh else Outcome("", *(found[key][1] or ())) for key in chains
            }
            chained = {found[key][0]: (expected[key], *(truths[place] for place in chains[key])) for key in chains}
            joined.parts += self._replace(connection, record, chained, tally)
        return joined

    def _replace(
        self, connection: Connection, record: Record, chains: Mapping[Remembered, Sequence[Outcome]], tally: Tally
    ) -> list[Part]:
        """Replace outcomes, keep the old ones as corrections, and return the new parts of the served bundle.

        ``chains`` maps each prediction to its stored outcome and the outcomes that were sent after it, in order. The
        last outcome of a chain becomes the stored outcome.
        """
        now = time.time()
        rows = sorted(chains, key=lambda row: row.prediction)
        asked = {ROWS: json_of([row.prediction for row in rows])}
        locked = connection.execute(self._sql.lock, asked).all()
        old = [Outcome("", label, value, probability) for _, _, label, value, probability in locked]
        stored = {row.prediction: (truth.label, truth.value) for row, truth in zip(locked, old, strict=True)}
        if any(stored.get(row.prediction) != _said(chains[row][0])[:2] for row in rows):
            raise AgainError  # another server has just changed the outcome of one of these rows: look again
        kept = [(prediction, since, now, *said) for prediction, since, *said in locked]
        for row in rows:
            kept += [(row.prediction, now, now, *_said(truth)) for truth in chains[row][1:-1]]
        new = [chains[row][-1] for row in rows]
        corrected = [(row.prediction, *_said(truth)) for row, truth in zip(rows, new, strict=True)]
        connection.execute(self._sql.corrections, {ROWS: json_of(kept)})
        connection.execute(self._sql.correct, {ROWS: json_of(corrected), "now": now})
        return self._move(connection, record, rows, old, new, tally)

    def _found(self, connection: Connection, keys: Sequence[str]) -> dict[str, Known]:
        asked = {ROWS: json_of(keys), "model": self._edition.model}
        return {
            key: (Remembered(*row), None if known is None else (label, value))
            for key, known, label, value, *row in connection.execute(self._sql.find, asked).all()
        }

    def _store(self, connection: Connection, places: Mapping[int, int], truths: Sequence[Outcome]) -> set[int]:
        if not places:
            return set()
        rows = [(prediction, *_said(truths[place])) for prediction, place in sorted(places.items())]
        bound = {ROWS: json_of(rows), "now": time.time()}
        return set(connection.execute(self._sql.outcomes, bound).scalars().all())

    def _learn(
        self,
        connection: Connection,
        record: Record,
        rows: Sequence[Remembered],
        truths: Sequence[Outcome],
        tally: Tally,
    ) -> list[Part]:
        """Add outcomes to the totals and to the last blocks, and return the parts of the served bundle."""
        learnt: list[Part] = []
        for owner, alike, known in self._counted(connection, record, rows, truths):
            records = known.counted_by_any(alike)  # so that rows that no monitor counts do not fill a block
            cuts = cut(len(records), self._totals.room(connection, owner, "outcomes"))
            parts = [part_of(records.take(rows_of_part), tally, alike) for rows_of_part in cuts]
            self._totals.add(connection, owner, "outcomes", parts)
            if owner == self._totals.owner:
                learnt += parts
        return learnt

    def _move(
        self,
        connection: Connection,
        record: Record,
        rows: Sequence[Remembered],
        old: Sequence[Outcome],
        new: Sequence[Outcome],
        tally: Tally,
    ) -> list[Part]:
        """Replace old outcomes by new outcomes in the totals, and return the new parts of the served bundle.

        The blocks of the last outcomes keep the old outcomes, because the block of an outcome is not recorded.
        """
        moved: list[Part] = []
        before, after = (self._counted(connection, record, rows, truths) for truths in (old, new))
        for (owner, alike, replaced), (_, _, replacing) in zip(before, after, strict=True):
            taken, given = part_of(replaced, tally, alike), part_of(replacing, tally, alike)
            self._totals.move(connection, owner, taken.tallies, given.tallies)
            if owner == self._totals.owner:
                moved.append(given)
        return moved

    def _counted(
        self, connection: Connection, record: Record, rows: Sequence[Remembered], truths: Sequence[Outcome]
    ) -> Iterator[tuple[Owner, set[str], Records]]:
        """Group the rows that are not excluded by edition, as :meth:`by_edition` does."""
        places = [place for place, row in enumerate(rows) if not row.excluded]
        return self.by_edition(connection, record, [rows[p] for p in places], [truths[p] for p in places])

    def by_edition(
        self,
        connection: Connection,
        record: Record,
        rows: Sequence[Remembered],
        truths: Sequence[Outcome] | None = None,
    ) -> Iterator[tuple[Owner, set[str], Records]]:
        """Group rows by edition: give the owner, the monitors whose counts still mean the same, and the rows.

        Without ``truths``, the rows are as they were when they were answered.
        """
        by_edition: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_edition.setdefault(row.edition, []).append(place)
        for edition, places in by_edition.items():
            owner, layouts = self._known(connection, edition)
            alike = {name for name, layout in self._edition.layouts.items() if layouts.get(name) == layout}
            if alike:  # if a monitor's counts mean something else now, the monitor does not count these rows
                known, resets = [rows[place] for place in places], record.resets.get(owner, {})
                if truths is None:
                    yield owner, alike, Remembered.records(known, self._edition.classes, resets)
                else:
                    told = [truths[place] for place in places]
                    yield owner, alike, Remembered.joined(known, told, self._edition.classes, resets)

    def _known(self, connection: Connection, edition: int) -> tuple[Owner, Mapping[str, str]]:
        known = self._editions.get(edition)
        if known is None:
            of = EDITIONS.c
            asked = select(of.version, of.bundle, of.layouts).where(of.edition == edition)
            row = connection.execute(asked).one()
            known = self._editions[edition] = (Owner(row.version, row.bundle), row.layouts)
        return known


def _said(truth: Outcome) -> tuple[str | None, float | None, float | None]:
    return truth.label, truth.value, truth.probability


def part_of(records: Records, tally: Tally, monitors: Container[str]) -> Part:
    """Count rows, keeping only the counts of ``monitors``."""
    return Part(len(records), {name: counts for name, counts in tally(records).items() if name in monitors})
