"""This server's answers to the other servers of its database: it says which of its answered rows are stored."""

from service.store.store_client import StoreClient

__all__ = ["Settlement"]


class Settlement:
    """Tells the other servers once the rows are stored that were answered before they asked.

    Rows are counted by tickets. Only the recorder's thread calls the method, which raises StoreDownError if the store
    cannot be reached.
    """

    def __init__(self, store: StoreClient) -> None:
        self._store = store
        self._number, self._ticket = 0, 0
        self._settled: int | None = None

    def look(self, asked: int | None, *, answered: int, stored: int) -> None:
        """Settle the number that this server was ``asked`` to settle, if its rows are stored.

        ``answered`` is the last ticket that was taken. It has to be read after ``asked``: then it counts every row that
        was answered before the other server asked. ``stored`` is the last ticket up to which every row is stored or
        dropped.
        """
        if asked is None or self._settled is None:  # struck off by another server, or just started
            self._store.enter()
            self._number = self._settled = 0
        elif asked != self._number:
            self._number, self._ticket = asked, answered
        if self._number != self._settled and stored >= self._ticket:
            self._store.settle(self._number)
            self._settled = self._number
