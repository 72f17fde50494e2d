"""The store's record of what admins changed about the monitors. A line of the record is never changed or deleted."""

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, insert, select

from service.messages.monitor_changes import Change, Standing
from service.store.served_versions import Edition
from service.store.tables import MONITOR_CHANGES
from service.store.totals import Owner

__all__ = ["MonitorChanges", "Record"]

LOCK = 0x67756172
"""With the checksum of the model's name, the number of the PostgreSQL advisory lock of :class:`MonitorChanges`."""
SHOWN = 50
"""How many changes a report shows."""
TABLE = MONITOR_CHANGES.c


@dataclass(frozen=True, slots=True)
class Record:
    """All changes of a model: the standing, every principal that was ever excluded, and the resets of every bundle."""

    standing: Standing
    principals: tuple[str, ...]
    resets: Mapping[Owner, Mapping[str, int]]
    """For each bundle, the number of the last reset of each monitor."""


class MonitorChanges:
    """One model's changes, inside transactions that the caller has begun.

    A transaction that counts rows calls :meth:`share` first, a transaction that changes what is counted calls
    :meth:`alone`. So the rows of a transaction are either counted before a change, or by the changed rules. SQLite lets
    one transaction write at a time, and needs no lock.
    """

    def __init__(self, edition: Edition) -> None:
        self._model, self._owner = edition.model, Owner(edition.version, edition.bundle)
        self._known: Record | None = None

    def share(self, connection: Connection) -> None:
        """Keep changes out until this transaction ends; other transactions that count go on."""
        self._lock(connection, shared=True)

    def alone(self, connection: Connection) -> None:
        """Wait for the transactions that count rows, and keep others out until this transaction ends."""
        self._lock(connection, shared=False)

    def _lock(self, connection: Connection, *, shared: bool) -> None:
        if connection.dialect.name == "postgresql":
            lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
            of_model = zlib.crc32(self._model.encode()) - (1 << 31)
            connection.execute(select(lock(LOCK, of_model)))

    def forget(self) -> None:
        """Forget what was read: the address of the database may lead to another database now."""
        self._known = None

    def add(self, connection: Connection, change: Change) -> Change:
        """Record a change now, and return the change with its time and its number."""
        now = time.time()
        made = insert(MONITOR_CHANGES).values(
            model=self._model, version=self._owner.version, bundle=self._owner.bundle, time=now, by=change.by,
            kind=change.kind, subject=change.subject, reason=change.reason,
        )  # fmt: skip
        number = connection.execute(made.returning(TABLE.change)).scalar_one()
        return replace(change, time=now, number=int(number))

    def read(self, connection: Connection) -> Record:
        """Read what all changes amount to. Without a new change this is one short question."""
        mine = TABLE.model == self._model
        number = connection.execute(select(func.max(TABLE.change)).where(mine)).scalar() or 0
        known = self._known
        if known is None or known.standing.number != number:
            known = self._known = self._read(connection, int(number))
        return known

    def _read(self, connection: Connection, number: int) -> Record:
        own = (TABLE.kind, TABLE.subject, TABLE.reason, TABLE.by, TABLE.time, TABLE.change)
        asked = select(*own, TABLE.version, TABLE.bundle).where(TABLE.model == self._model, TABLE.change <= number)
        included: dict[str, bool] = {}
        resets: dict[Owner, dict[str, Change]] = {}
        changes: list[Change] = []
        for *values, version, bundle in connection.execute(asked.order_by(TABLE.change)).all():
            change = Change(*values)
            changes.append(change)
            if change.kind == "reset":
                resets.setdefault(Owner(version, bundle), {})[change.subject] = change
            else:
                included[change.subject] = change.kind == "include"
        standing = Standing(
            excluded=frozenset(name for name, counted in included.items() if not counted),
            resets=resets.get(self._owner, {}),
            changes=tuple(reversed(changes[-SHOWN:])),
            number=number,
        )
        numbers = {owner: {name: each.number for name, each in own.items()} for owner, own in resets.items()}
        return Record(standing, tuple(included), numbers)
