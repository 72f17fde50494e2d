"""Several servers on one database: what one has answered is stored before another calls it unknown."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from remembered import CLASSES, GUARDS, answered, confusion, opened, rows_of

from guards.records import Records
from service.columns import Truth
from service.monitoring import Monitoring
from service.recorder import Recorder
from service.replicas import Replicas, own_name
from service.store import Store
from service.tables import SERVERS
from service.tallies import Tallies


class Counting(Monitoring):
    """Counts by the made-up tally."""

    def tally(self, records: Records) -> Tallies:
        return confusion(records)


def until(true: Callable[[], bool]) -> None:
    """Wait for something."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def here(database_url: str) -> Iterator[Store]:
    """Open the store as the server that gets the feedback."""
    store = opened(database_url)
    store.prepare()
    yield store
    store.database.close()


@pytest.fixture
def there(database_url: str, here: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Run the recorder of another server, which lets rows wait for two seconds."""
    del here
    monkeypatch.setattr("service.recorder.own_name", lambda: "there:1")
    monkeypatch.setattr("service.recorder.LINGER_SECONDS", 2.0)
    store = opened(database_url)
    recorder = Recorder(
        store, Counting(()), classes=CLASSES, guards=GUARDS, queue_rows=100, retention=None, count=lambda *_: None
    )  # fmt: skip
    yield recorder
    recorder.close()


def servers(store: Store) -> dict[str, Any]:
    """Read who is down as a server."""
    return {row["server"]: row for row in rows_of(store, SERVERS)}


def test_what_another_server_answered_is_stored_when_it_has_settled(here: Store, there: Recorder) -> None:
    """However soon after the answer it is asked, and though the batch is still on its way to the writer."""
    replicas = Replicas(here, "here:1")
    replicas.enter()
    until(lambda: "there:1" in servers(here))
    for number in range(3):
        there.expect()
        asked = replicas.ask()
        assert list(asked) == ["there:1"]
        time.sleep(0.4)
        assert replicas.behind(asked) == ["there:1"]  # the batch has not been left yet
        there.leave(answered([f"row-{number}"]))
        until(lambda asked=asked: not replicas.behind(asked))  # type: ignore[misc]
        assert here.join([Truth(f"row-{number}", "yes")], confusion).accepted == [0]


def test_a_server_alone_asks_nobody(here: Store) -> None:
    """So that an unknown id is answered at once."""
    replicas = Replicas(here, "here:1")
    replicas.enter()
    assert replicas.ask() == {}


def test_a_dead_server_is_struck_off_once(here: Store) -> None:
    """It stays behind until it is taken for dead, and is not asked again."""
    replicas, dead = Replicas(here, "here:1"), Replicas(here, "dead:1")
    dead.enter()
    asked = replicas.ask()
    assert replicas.behind(asked) == ["dead:1"]
    replicas.strike(replicas.behind(asked))
    assert replicas.behind(asked) == []
    assert replicas.ask() == {}
    assert dead.asked() is None


def test_a_server_that_was_taken_for_dead_enters_again(here: Store, there: Recorder) -> None:
    """It looks for its own row, and so does one whose database file was replaced."""
    until(lambda: "there:1" in servers(here))
    Replicas(here, "here:1").strike(["there:1"])
    until(lambda: "there:1" in servers(here))
    there.close()
    assert servers(here) == {}


def test_a_server_that_starts_again_takes_its_old_row_over(here: Store) -> None:
    """What its earlier process was asked for does not concern it."""
    again = Replicas(here, "here:1")
    again.enter()
    Replicas(here, "other:1").ask()
    again.enter()
    assert again.asked() == 0
    assert len(servers(here)) == 1


def test_the_name_tells_processes_without_a_socket_apart() -> None:
    """A process that was handed no socket is named by its number."""
    assert ":pid-" in own_name()
