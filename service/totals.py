"""The monitors' counts in the store: their totals by bundle, and the blocks of what was counted last."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import orjson
from sqlalchemy import ColumnElement, Connection, Table, delete, select

from guards.recent import BLOCK_ROWS, BLOCKS, STAGES, Stage
from service.editions import Edition
from service.statements import ROWS, Statements
from service.tables import BLOCK_COUNTS, TOTALS
from service.tables import BLOCKS as BLOCK_TABLE
from service.tallies import Places, Tallies

__all__ = ["SCOPES", "Owner", "Part", "Scope", "Sums", "Totals"]

Scope = Literal["bundle", "version", "lifetime"]
"""Whose figures: the served bundle's, those of all bundles of its version, or of all versions of the model."""
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose counts: the bundle that answered the rows, and the version that it was served as."""

    version: str
    bundle: str


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows, and what the monitors counted of them."""

    rows: int
    tallies: Tallies


@dataclass(frozen=True, slots=True)
class Sums:
    """The totals of a scope by monitor, the bundles that they are of, and, of one bundle, the last blocks by stage.

    ``bundles`` holds "" for rows that were counted before totals were kept by bundle.
    """

    totals: Mapping[str, Places]
    bundles: tuple[str, ...] = ()
    blocks: Mapping[Stage, Sequence[Mapping[str, Places]]] = field(default_factory=dict)


class Totals:
    """Adds counts up and reads them, inside of a transaction that is somebody else's."""

    def __init__(self, sql: Statements, edition: Edition) -> None:
        self._sql, self._edition = sql, edition
        self.owner = Owner(edition.version, edition.bundle)

    def add(self, connection: Connection, owner: Owner, stage: Stage, parts: Sequence[Part]) -> None:
        """Add parts to an owner's totals, and to the blocks of a stage."""
        if self._add_totals(connection, owner, [part.tallies for part in parts]):
            self._add_blocks(connection, owner, stage, parts)

    def move(self, connection: Connection, owner: Owner, taken: Tallies, given: Tallies) -> None:
        """Take counts out of an owner's totals and put others in."""
        self._add_totals(connection, owner, [{name: -counts for name, counts in taken.items()}, given])

    def _add_totals(self, connection: Connection, owner: Owner, several: Sequence[Tallies]) -> bool:
        """Add tallies up, and tell whether there was anything to count."""
        sums = self._places(several)
        if sums:
            rows = [(owner.version, owner.bundle, *key, count) for key, count in sums]
            connection.execute(self._sql.totals, {ROWS: _text(rows), "model": self._edition.model})
        return bool(sums)

    def _places(self, several: Iterable[Tallies]) -> list[tuple[tuple[str, str, int], int]]:
        """Add tallies up by monitor, layout and place: in order, so that two servers cannot wait for each other."""
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
        connection.execute(self._sql.block_counts, {ROWS: _text(counted)})
        if number > first:
            old = [*self._of(BLOCK_TABLE, owner), BLOCK_TABLE.c.stage == stage, BLOCK_TABLE.c.number <= number - BLOCKS]
            connection.execute(delete(BLOCK_TABLE).where(*old))

    def room(self, connection: Connection, owner: Owner, stage: Stage) -> int:
        """How many rows fill the block that is begun."""
        filled = self._last(connection, owner, stage)[1]
        return BLOCK_ROWS - filled if filled < BLOCK_ROWS else BLOCK_ROWS

    def _last(self, connection: Connection, owner: Owner, stage: Stage) -> tuple[int, int]:
        """Give the number and the rows of the newest block; 0 and 0 if there is none."""
        of = BLOCK_TABLE.c
        asked = select(of.number, of.rows).where(*self._of(BLOCK_TABLE, owner), of.stage == stage)
        row = connection.execute(asked.order_by(of.number.desc()).limit(1)).one_or_none()
        return (0, 0) if row is None else (row.number, row.rows)

    def read(self, connection: Connection, scope: Scope) -> Sums:
        """Add the totals of a scope up; what was counted in another layout than today's is left out."""
        of, own = TOTALS.c, [TOTALS.c.model == self._edition.model]
        if scope != "lifetime":
            own.append(of.version == self.owner.version)
        if scope == "bundle":
            own.append(of.bundle == self.owner.bundle)
        asked = select(of.monitor, of.layout, of.place, of.bundle, of.count).where(*own)
        totals: dict[str, dict[int, int]] = {}
        bundles = set()
        for monitor, layout, place, bundle, count in connection.execute(asked).all():
            if self._edition.layouts.get(monitor) == layout:
                places = totals.setdefault(monitor, {})
                places[place] = places.get(place, 0) + count
                bundles.add(bundle)
        if scope == "bundle":
            return Sums(totals, (self.owner.bundle,), {stage: self._blocks(connection, stage) for stage in STAGES})
        return Sums(totals, tuple(sorted(bundles)))

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


def _text(rows: object) -> str:
    return orjson.dumps(rows).decode()
