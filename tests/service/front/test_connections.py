"""The bounds on connections: who is let in, who makes room, what probes have for themselves, and what lies unread."""

import logging
from collections.abc import Callable

import pytest

from service.front import connections as bounds
from service.front.connections import FOR_PROBES, SPARE, Connections, Place
from service.front.dispatch import COMMON_CODES, UNMATCHED
from service.telemetry.metrics.front import FrontMetrics

LIMIT = 160
OTHERS = 30
MOST = LIMIT - SPARE - FOR_PROBES - OTHERS
HIGH = LIMIT - 1
"""The number of a file that is opened when nearly all are open."""


class Client:
    """A connection that keeps what is done to it."""

    def __init__(self, *, works: bool = False, fresh: bool = False) -> None:
        self.works, self.fresh, self.ends = works, fresh, list[str]()

    def may_end(self, *, fresh_too: bool = False) -> bool:
        return fresh_too or not self.fresh

    def make_room(self) -> None:
        self.ends.append("made room")

    def give_up(self) -> None:
        self.ends.append("given up")

    def shutdown(self) -> None:
        self.ends.append("shut down")


@pytest.fixture
def metrics() -> FrontMetrics:
    return FrontMetrics({UNMATCHED: COMMON_CODES})


@pytest.fixture
def connections(metrics: FrontMetrics, monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Bound the connections of a process that may open 160 files, and has 30 others open."""
    monkeypatch.setattr(bounds, "most_files", lambda: LIMIT)
    monkeypatch.setattr(Connections, "_other_files", lambda _: OTHERS)
    return Connections(metrics, read_seconds=30)


def enter(connections: Connections, count: int, make: Callable[[], Client] = Client) -> list[tuple[Client, Place]]:
    """Let clients connect one after the other; each begins to wait, and some send a request."""
    found = []
    for _ in range(count):
        client = make()
        found.append((client, connections.admit(client, HIGH)))
        connections.waits(client)
        if client.works:
            connections.works(client)
    return found


def test_the_longest_waiting_connection_makes_room(
    connections: Connections, metrics: FrontMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the bound each new connection takes the place of the oldest idle one, with one line in the log."""
    first = enter(connections, MOST)
    assert {place for _, place in first} == {Place.ANY}
    assert not caplog.records
    connections.works(first[0][0])
    connections.waits(first[0][0])  # it had a request just now
    more = enter(connections, 3)
    assert {place for _, place in more} == {Place.ANY}
    assert [client.ends for client, _ in first[:5]] == [[], ["made room"], ["made room"], ["made room"], []]
    assert len(connections) == metrics._seat.connections == MOST
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert f"of {LIMIT} files" in line.getMessage()


def test_probes_have_connections_of_their_own(connections: Connections) -> None:
    """If every connection is at work, a few more may ask for probes, and the next is refused."""
    found = enter(connections, MOST + FOR_PROBES + 1, lambda: Client(works=True))
    places = [place for _, place in found]
    assert places[:MOST] == [Place.ANY] * MOST
    assert places[MOST:] == [Place.PROBES] * FOR_PROBES + [Place.NONE]
    assert not any(client.ends for client, _ in found)
    connections.forget(found[0][0])
    connections.forget(found[-1][0])
    assert [place for _, place in enter(connections, 1)] == [Place.PROBES]


def test_connections_of_others_do_not_use_up_those_of_probes(connections: Connections) -> None:
    """A connection that is refused makes room for one more probe, and not for one more request."""
    enter(connections, MOST, lambda: Client(works=True))
    found = enter(connections, 3 * FOR_PROBES)  # each is refused, and waits for its client to close
    assert {place for _, place in found} == {Place.PROBES}
    assert len(connections) <= MOST + FOR_PROBES


def test_a_storm_of_new_connections_leaves_room_for_probes(connections: Connections) -> None:
    """Connections that were made just now are spared for others' requests, and not for probes."""
    found = enter(connections, 4 * MOST, lambda: Client(fresh=True))
    assert [place for _, place in found] == [Place.ANY] * MOST + [Place.PROBES] * 3 * MOST
    assert len(connections) == MOST + FOR_PROBES
    for client, _ in found:
        client.fresh = False
    assert [place for _, place in enter(connections, 1)] == [Place.ANY]
    assert len(connections) == MOST


def test_few_files_are_not_counted(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    """While few files are open, a new connection costs no look at them."""
    monkeypatch.setattr(Connections, "_other_files", None)
    assert connections.admit(Client(), 10) is Place.ANY
    monkeypatch.setattr(bounds, "most_files", lambda: None)
    assert connections.admit(Client(), 10**6) is Place.ANY


def test_other_files_are_counted(metrics: FrontMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of other kinds, such as gRPC's connections, leave less room for connections."""
    monkeypatch.setattr(bounds, "most_files", lambda: LIMIT)
    found = dict[int, Place]()
    for others in (10, LIMIT - SPARE - FOR_PROBES, LIMIT):
        monkeypatch.setattr(bounds.os, "listdir", lambda _, others=others: range(others + 2))  # type: ignore[attr-defined]
        found[others] = Connections(metrics, read_seconds=30).admit(Client(), HIGH)
    assert list(found.values()) == [Place.ANY, Place.PROBES, Place.NONE]


def test_a_connection_that_ends_makes_room_first(connections: Connections) -> None:
    """A connection that only waits for its client to close is closed before one that waits for a request."""
    clients = [client for client, _ in enter(connections, MOST)]
    connections.waits(clients[-1], ends=True)
    enter(connections, 1)
    assert [client.ends for client in (clients[0], clients[-1])] == [[], ["made room"]]


def test_a_client_that_reads_is_not_waiting(connections: Connections) -> None:
    """A connection with an answer to read does not make room for others until the answer was read."""
    clients = [client for client, _ in enter(connections, MOST)]
    connections.unread(clients[0], 100)
    connections.waits(clients[0])
    enter(connections, 1)
    assert [client.ends for client in clients[:2]] == [[], ["made room"]]
    connections.was_read(clients[0])
    connections.waits(clients[0])
    enter(connections, MOST)
    assert clients[0].ends == ["made room"]


def test_the_client_that_reads_slowest_is_given_up(
    connections: Connections, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If more bytes lie unread than the bound, the clients that have read longest are given up; a lone one is not."""
    monkeypatch.setattr(bounds, "MOST_UNREAD_BYTES", 100)
    clients = [Client() for _ in range(4)]
    connections.unread(clients[0], 120)
    assert not clients[0].ends
    connections.unread(clients[1], 40)
    connections.unread(clients[2], 50)
    connections.was_read(clients[1])
    connections.was_read(clients[1])
    connections.unread(clients[3], 40)
    assert [client.ends for client in clients] == [["given up"], [], [], []]
    assert len(caplog.records) == 1
