"""Several servers on one database: a prediction is stored before another server calls it unknown."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from example_answers import SETTINGS, answered, confusion, opened, rows_of
from waiting import until

from service.messages.outcomes import Outcome
from service.store.local_store import LocalStore
from service.store.prediction_log import Store
from service.store.recorder import Recorder
from service.store.replicas import Replicas, own_name
from service.store.store_client import Upkeep
from service.store.tables import SERVERS


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
    monkeypatch.setattr("service.store.recorder.LINGER_SECONDS", 2.0)
    store = LocalStore(opened(database_url), SETTINGS, "there:1")
    recorder = Recorder(store, confusion, queue_rows=100, count=lambda *_: None, count_deleted=lambda *_: None)
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
        assert here.join([Outcome(f"row-{number}", "yes")], confusion).accepted == [0]


def test_a_row_that_is_answered_while_the_server_looks_is_waited_for(
    here: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that was answered before the question counts, even if both came after the server began its upkeep."""
    monkeypatch.setattr("service.store.recorder.LINGER_SECONDS", 2.0)
    replicas, asked = Replicas(here, "here:1"), dict[str, int]()
    replicas.enter()

    class Late(LocalStore):
        """Another server answers a row and is asked for it after it has begun its upkeep."""

        def upkeep(self) -> Upkeep:
            if recorders and not asked and "there:1" in servers(here):
                recorders[0].expect()
                asked.update(replicas.ask())
            return super().upkeep()

    recorders: list[Recorder] = []
    store = Late(opened(database_url), SETTINGS, "there:1")
    recorders.append(Recorder(store, confusion, queue_rows=100, count=lambda *_: None, count_deleted=lambda *_: None))
    until(lambda: bool(asked))
    time.sleep(0.6)
    assert replicas.behind(asked) == ["there:1"]
    recorders[0].leave(answered(["row"]))
    until(lambda: not replicas.behind(asked))
    assert here.join([Outcome("row", "yes")], confusion).accepted == [0]
    recorders[0].close()


def test_a_server_whose_store_was_tried_is_entered(here: Store, there: Recorder) -> None:
    """A server that waits for the first try of its store is known to the others before it answers."""
    there.wait_until_tried(60)
    assert "there:1" in servers(here)


def test_a_server_alone_asks_nobody(here: Store) -> None:
    """So that an unknown id is answered at once."""
    replicas = Replicas(here, "here:1")
    replicas.enter()
    assert replicas.ask() == {}


def test_a_dead_server_is_struck_off_once(here: Store) -> None:
    """A silent server counts as behind until it is taken for dead, and is not asked again."""
    replicas, dead = Replicas(here, "here:1"), Replicas(here, "dead:1")
    dead.enter()
    asked = replicas.ask()
    assert replicas.behind(asked) == ["dead:1"]
    replicas.strike(replicas.behind(asked))
    assert replicas.behind(asked) == []
    assert replicas.ask() == {}
    assert dead.asked() is None


def test_a_server_that_was_taken_for_dead_enters_again(here: Store, there: Recorder) -> None:
    """A server enters itself again if its own row or its database file was removed."""
    until(lambda: "there:1" in servers(here))
    Replicas(here, "here:1").strike(["there:1"])
    until(lambda: "there:1" in servers(here))
    there.close()
    assert servers(here) == {}


def test_a_server_that_starts_again_takes_its_old_row_over(here: Store) -> None:
    """The questions to a server's earlier process do not concern the new process."""
    again = Replicas(here, "here:1")
    again.enter()
    Replicas(here, "other:1").ask()
    again.enter()
    assert again.asked() == 0
    assert len(servers(here)) == 1


def test_the_name_tells_processes_without_a_socket_apart() -> None:
    """A process that was handed no socket is named by its number."""
    assert ":pid-" in own_name()
