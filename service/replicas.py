"""The servers that write to one database, and how one makes sure that the others have stored what they answered.

A server stores answered rows a moment after it has answered them. Feedback may come to another server within that
moment. That server raises the number that each other server is asked for; a server that finds its number raised stores
what it has answered so far, and writes the number down as settled. No clock is compared with another one's.
"""

import os
import socket
from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select, update

from service.listening import inherited
from service.store import Store
from service.tables import SERVERS

__all__ = ["Replicas", "own_name"]

TABLE = SERVERS.c


def own_name() -> str:
    """Name this server by its host and port, so that it finds its own row again after a crash."""
    port = 0
    listening = inherited()
    if listening is not None:
        with listening:
            if listening.family in (socket.AF_INET, socket.AF_INET6):
                port = int(listening.getsockname()[1])
    return f"{socket.gethostname()}:{port or f'pid-{os.getpid()}'}"


class Replicas:
    """The rows of one model's servers; every method raises StoreDownError if the database cannot be reached."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        own = store.edition.model
        self._mine = (TABLE.model == own, TABLE.server == name)
        self._others = (TABLE.model == own, TABLE.server != name)

    def enter(self) -> None:
        """Let other servers know of this one; nothing waits here from an earlier process of the same name."""

        def work(connection: Connection) -> None:
            connection.execute(delete(SERVERS).where(*self._mine))
            row = {"model": self._store.edition.model, "server": self._name, "asked": 0, "settled": 0}
            connection.execute(insert(SERVERS).values(row))

        self._store.transact(work)

    def leave(self) -> None:
        """Let other servers know that everything is stored, and that this one answers no more."""
        self._store.transact(lambda connection: connection.execute(delete(SERVERS).where(*self._mine)))

    def asked(self) -> int | None:
        """Return the number that this server is asked to settle; None if another server took it for dead."""
        found = self._store.query(
            lambda connection: connection.execute(select(TABLE.asked).where(*self._mine)).scalar()
        )
        return None if found is None else int(found)

    def settle(self, number: int) -> None:
        """Say that everything is stored which was answered before the number was asked for."""
        settled = update(SERVERS).where(*self._mine).values(settled=number)
        self._store.transact(lambda connection: connection.execute(settled))

    def ask(self) -> Mapping[str, int]:
        """Ask all other servers to store what they have answered; give the number that each of them is to settle."""
        raised = update(SERVERS).where(*self._others).values(asked=TABLE.asked + 1)
        asking = raised.returning(TABLE.server, TABLE.asked)
        others = select(TABLE.server).where(*self._others).limit(1)
        if self._store.query(lambda connection: connection.execute(others).first()) is None:
            return {}
        told = self._store.transact(lambda connection: connection.execute(asking).all())
        return {str(name): int(number) for name, number in told}

    def behind(self, asked: Mapping[str, int]) -> list[str]:
        """Name the servers that have not settled their number yet; one that has left has stored everything."""
        settled = select(TABLE.server, TABLE.settled).where(*self._others)
        found = self._store.query(lambda connection: connection.execute(settled).all())
        return [name for name, number in found if name in asked and number < asked[name]]

    def strike(self, names: list[str]) -> None:
        """Take servers for dead; one that is not enters again."""
        dead = delete(SERVERS).where(*self._others, TABLE.server.in_(names))
        self._store.transact(lambda connection: connection.execute(dead))
