"""The gRPC connections that have a call under way. gRPC tells nobody when a connection begins or ends."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CallingConnection", "CallingConnections"]


class CallingConnection:
    """A connection, for as long as it has calls under way."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def is_over(self) -> bool:
        """Return whether no call is under way."""
        return not self.calls


class CallingConnections:
    """Knows the connections by gRPC's names of their peers; used by the event loop alone."""

    def __init__(self) -> None:
        self._calling: dict[str, CallingConnection] = {}

    @contextmanager
    def call(self, peer: str) -> Iterator[CallingConnection]:
        """Note a call of ``peer`` while the context is open; the context gives the connection."""
        connection = self._calling.setdefault(peer, CallingConnection())
        connection.calls += 1
        try:
            yield connection
        finally:
            connection.calls -= 1
            if connection.is_over():
                del self._calling[peer]
