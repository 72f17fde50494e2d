"""The servers that write to one database, and how a server waits until the others have stored their answered rows.

A server stores answered rows a moment after it has answered them. Feedback may reach another server within that
moment. This other server then raises the number ``asked`` of every server. A server that finds its number raised stores
the rows that it has answered so far, and then writes the number as ``settled``. No clocks of different machines are
compared.
"""

import os
import socket
from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select, update

from service.messages.paths import SERVED_PORT
from service.store.prediction_log import Store
from service.store.tables import SERVERS

__all__ = ["Replicas", "own_name"]

TABLE = SERVERS.c


def own_name(environment: Mapping[str, str] = os.environ) -> str:
    """Name this server by its host and port, so that it finds its own row in the table again after a crash."""
    return f"{socket.gethostname()}:{environment.get(SERVED_PORT) or f'pid-{os.getpid()}'}"


class Replicas:
    """The table rows of one model's servers. Every method raises StoreDownError if the database cannot be reached."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        own = store.edition.model
        self._mine = (TABLE.model == own, TABLE.server == name)
        self._others = (TABLE.model == own, TABLE.server != name)

    def enter(self) -> None:
        """Enter this server in the table, in place of an earlier process of the same name, of which nothing waits."""

        def work(connection: Connection) -> None:
            connection.execute(delete(SERVERS).where(*self._mine))
            row = {"model": self._store.edition.model, "server": self._name, "asked": 0, "settled": 0}
            connection.execute(insert(SERVERS).values(row))

        self._store.transact(work)

    def leave(self) -> None:
        """Remove this server from the table: it has stored every answered row, and answers no more."""
        self._store.transact(lambda connection: connection.execute(delete(SERVERS).where(*self._mine)))

    def asked(self) -> int | None:
        """Return the number that this server is asked to settle; None if another server has declared it dead."""
        found = self._store.query(
            lambda connection: connection.execute(select(TABLE.asked).where(*self._mine)).scalar()
        )
        return None if found is None else int(found)

    def settle(self, number: int) -> None:
        """Record that every row is stored that was answered before this number was asked for."""
        settled = update(SERVERS).where(*self._mine).values(settled=number)
        self._store.transact(lambda connection: connection.execute(settled))

    def ask(self) -> Mapping[str, int]:
        """Ask all other servers to store their answered rows; return the number that each of them has to settle."""
        raised = update(SERVERS).where(*self._others).values(asked=TABLE.asked + 1)
        asking = raised.returning(TABLE.server, TABLE.asked)
        others = select(TABLE.server).where(*self._others).limit(1)
        if self._store.query(lambda connection: connection.execute(others).first()) is None:
            return {}
        told = self._store.transact(lambda connection: connection.execute(asking).all())
        return {str(name): int(number) for name, number in told}

    def behind(self, asked: Mapping[str, int]) -> list[str]:
        """List the servers that have not settled their number yet. A server that has left has stored every row."""
        settled = select(TABLE.server, TABLE.settled).where(*self._others)
        found = self._store.query(lambda connection: connection.execute(settled).all())
        return [name for name, number in found if name in asked and number < asked[name]]

    def strike(self, names: list[str]) -> None:
        """Declare servers dead by removing them from the table. If such a server lives, it enters itself again."""
        dead = delete(SERVERS).where(*self._others, TABLE.server.in_(names))
        self._store.transact(lambda connection: connection.execute(dead))
