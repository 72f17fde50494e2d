"""The monitors' counts in the store: their totals by bundle, and the blocks of what was counted last."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, delete, select

from guards.statistics.recent_blocks import BLOCK_ROWS, BLOCKS, STAGES, Stage
from service.messages.scope import Scope
from service.monitoring.sums import Places, Sums, Tallies
from service.store.served_versions import Edition
from service.store.statements import ROWS, Statements, json_of
from service.store.tables import BLOCK_COUNTS, TOTALS
from service.store.tables import BLOCKS as BLOCK_TABLE

__all__ = ["Owner", "Part", "Totals"]

COUNTED = ("", "rows")
"""The monitor and the layout under which rows themselves are counted, at one place for each stage. No monitor has an
empty name."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of counts: the bundle that answered the rows, and the version under which it was served."""

    version: str
    bundle: str


@dataclass(frozen=True, slots=True)
class Part:
    """A number of rows, and the monitors' counts of these rows."""

    rows: int
    tallies: Tallies


class Totals:
    """Adds and reads counts inside a transaction that the caller has begun."""

    def __init__(self, sql: Statements, edition: Edition) -> None:
        self._sql, self._edition = sql, edition
        self.owner = Owner(edition.version, edition.bundle)

    def add(self, connection: Connection, owner: Owner, stage: Stage, parts: Sequence[Part]) -> None:
        """Add parts to an owner's totals, and to the blocks of a stage."""
        counted = (*COUNTED, STAGES.index(stage), sum(part.rows for part in parts))
        if self._add_totals(connection, owner, [part.tallies for part in parts], counted):
            self._add_blocks(connection, owner, stage, parts)

    def move(self, connection: Connection, owner: Owner, taken: Tallies, given: Tallies) -> None:
        """Subtract the counts ``taken`` from an owner's totals, and add the counts ``given``."""
        self._add_totals(connection, owner, [{name: -counts for name, counts in taken.items()}, given])

    def forget(self, connection: Connection, monitor: str) -> None:
        """Delete a monitor's counts of the served bundle."""
        of = [*self._of(TOTALS, self.owner), TOTALS.c.monitor == monitor]
        connection.execute(delete(TOTALS).where(*of))
        blocks = select(BLOCK_TABLE.c.block).where(*self._of(BLOCK_TABLE, self.owner))
        counts = BLOCK_COUNTS.c
        connection.execute(delete(BLOCK_COUNTS).where(counts.monitor == monitor, counts.block.in_(blocks)))

    def _add_totals(
        self, connection: Connection, owner: Owner, several: Sequence[Tallies], *more: tuple[str, str, int, int]
    ) -> bool:
        """Add tallies, and ``more`` counts, to the totals; return whether there was anything to add."""
        sums = self._places(several)
        if sums:
            counts = [*more, *((*key, count) for key, count in sums)]
            rows = [(owner.version, owner.bundle, *each) for each in counts]
            connection.execute(self._sql.totals, {ROWS: json_of(rows), "model": self._edition.model})
        return bool(sums)

    def _places(self, several: Iterable[Tallies]) -> list[tuple[tuple[str, str, int], int]]:
        """Sum tallies by monitor, layout and place. The result is sorted, so that two servers cannot deadlock."""
        sums: dict[tuple[str, str, int], int] = {}
        for tallies in several:
            for monitor, counts in tallies.items():
                flat, layout = counts.ravel(), self._edition.layouts[monitor]
                for place in flat.nonzero()[0].tolist():
                    key = (monitor, layout, place)
                    sums[key] = sums.get(key, 0) + int(flat[place])
        return sorted(sums.items())

    def _add_blocks(self, connection: Connection, owner: Owner, stage: Stage, parts: Sequence[Part]) -> None:
        first, filled = self._last(connection, owner, stage)
        by_number: dict[int, list[Part]] = {}
        number = first
        for part in parts:
            if filled >= BLOCK_ROWS:
                number, filled = number + 1, 0
            by_number.setdefault(number, []).append(part)
            filled += part.rows
        counted: list[tuple[int, str, str, int, int]] = []
        for number, some in sorted(by_number.items()):
            one = {"stage": stage, "number": number, "rows": sum(part.rows for part in some)}
            block = connection.execute(self._sql.block, self._names(owner) | one).scalar_one()
            counted += [(block, *key, count) for key, count in self._places(part.tallies for part in some)]
        connection.execute(self._sql.block_counts, {ROWS: json_of(counted)})
        if number > first:
            old = [*self._of(BLOCK_TABLE, owner), BLOCK_TABLE.c.stage == stage, BLOCK_TABLE.c.number <= number - BLOCKS]
            connection.execute(delete(BLOCK_TABLE).where(*old))

    def room(self, connection: Connection, owner: Owner, stage: Stage) -> int:
        """Return how many rows still fit into the newest block."""
        filled = self._last(connection, owner, stage)[1]
        return BLOCK_ROWS - filled if filled < BLOCK_ROWS else BLOCK_ROWS

    def _last(self, connection: Connection, owner: Owner, stage: Stage) -> tuple[int, int]:
        """Give the number and the rows of the newest block; 0 and 0 if there is none."""
        of = BLOCK_TABLE.c
        asked = select(of.number, of.rows).where(*self._of(BLOCK_TABLE, owner), of.stage == stage)
        row = connection.execute(asked.order_by(of.number.desc()).limit(1)).one_or_none()
        return (0, 0) if row is None else (row.number, row.rows)

    def read(self, connection: Connection, scope: Scope) -> Sums:
        """Sum the totals of a scope. Counts in a layout other than the current layout are left out."""
        of, own = TOTALS.c, [TOTALS.c.model == self._edition.model]
        if scope != "lifetime":
            own.append(of.version == self.owner.version)
        if scope == "bundle":
            own.append(of.bundle == self.owner.bundle)
        asked = select(of.monitor, of.layout, of.place, of.bundle, of.count).where(*own)
        totals: dict[str, dict[int, int]] = {}
        bundles = set()
        counted = dict.fromkeys(STAGES, 0)
        for monitor, layout, place, bundle, count in connection.execute(asked).all():
            if (monitor, layout) == COUNTED:
                counted[STAGES[place]] += count
            elif self._edition.layouts.get(monitor) == layout:
                places = totals.setdefault(monitor, {})
                places[place] = places.get(place, 0) + count
                bundles.add(bundle)
        if scope == "bundle":
            blocks = {stage: self._blocks(connection, stage) for stage in STAGES}
            return Sums(totals, (self.owner.bundle,), blocks, counted)
        return Sums(totals, tuple(sorted(bundles)), rows=counted)

    def _blocks(self, connection: Connection, stage: Stage) -> list[Mapping[str, Places]]:
        of, counted = BLOCK_TABLE.c, BLOCK_COUNTS.c
        asked = (
            select(of.number, counted.monitor, counted.layout, counted.place, counted.count)
            .select_from(BLOCK_TABLE.join(BLOCK_COUNTS))
            .where(*self._of(BLOCK_TABLE, self.owner), of.stage == stage)
            .order_by(of.number)
        )
        blocks: dict[int, dict[str, dict[int, int]]] = {}
        for number, monitor, layout, place, count in connection.execute(asked).all():
            if self._edition.layouts.get(monitor) == layout:
                blocks.setdefault(number, {}).setdefault(monitor, {})[place] = count
        return list(blocks.values())

    def _names(self, owner: Owner) -> dict[str, str]:
        return {"model": self._edition.model, "version": owner.version, "bundle": owner.bundle}

    def _of(self, table: Table, owner: Owner) -> list[ColumnElement[bool]]:
        return [table.c[name] == value for name, value in self._names(owner).items()]
