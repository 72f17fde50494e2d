"""Answers are written in the background: none is lost silently, and no request waits for the database."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from example_answers import EDITION, SETTINGS, answered, confusion, matrix, opened, rows_of
from waiting import until

from guards.config.store import StoreConfig
from guards.monitors.answered_rows import Records
from service.monitoring.sums import Tallies
from service.store.database import StoreDownError
from service.store.local_store import LocalStore
from service.store.prediction_log import Store
from service.store.recorder import POLL_SECONDS, Recorder
from service.store.rows import Block
from service.store.tables import PREDICTIONS


class Shaky(Store):
    """A store that is down, slow or refuses the data on request."""

    down = broken = False
    go = threading.Event()
    tries = 0

    def prepare(self) -> None:
        self.tries += 1
        assert self.go.wait(60)
        if self.down:
            raise StoreDownError("gone for a walk")
        super().prepare()

    def write(self, block: Block, tallies: Tallies, tally: Callable[[Records], Tallies]) -> int:
        if self.broken:
            raise ValueError("PAYLOAD")
        return super().write(block, tallies, tally)


class Case:
    """A recorder on a store that does what the test says."""

    def __init__(self, folder: Path, *, queue_rows: int = 100, retention_days: float = 1e6) -> None:
        url = f"sqlite:///{folder / 'x.db'}"
        self.store = Shaky(opened(url).database, EDITION)
        self.store.go = threading.Event()
        self.store.go.set()
        self.counts = {"stored": 0, "repeated": 0, "dropped": 0}
        self.gone = {"age": 0, "size": 0}
        self._make = lambda: Recorder(
            LocalStore(self.store, replace(SETTINGS, limits=StoreConfig(retention_days=retention_days))),
            confusion,
            queue_rows=queue_rows,
            count=self.count,
            count_deleted=self.deleted,
        )
        self.recorder: Recorder

    def deleted(self, reason: str, rows: int) -> None:
        self.gone[reason] += rows

    def count(self, result: str, rows: int) -> None:
        self.counts[result] += rows

    def start(self) -> "Case":
        self.recorder = self._make()
        return self

    def answer(self, *ids: str, time: float = 1000.0) -> None:
        self.recorder.expect()
        self.recorder.leave(answered(ids, time=time))

    def kept(self) -> set[str]:
        return {row["id"] for row in rows_of(self.store, PREDICTIONS)}


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    case = Case(tmp_path)
    yield case
    case.store.go.set()
    case.recorder.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.recorder.RETRY_SECONDS", 0.02)


def test_what_was_answered_is_stored(case: Case) -> None:
    """After a flush everything that was answered is in the store, in its totals, and counted by result."""
    case.start().answer("a", "b")
    case.answer("b", "c")
    assert case.recorder.flush(60)
    assert case.kept() == {"a", "b", "c"}
    assert case.counts == {"stored": 3, "repeated": 1, "dropped": 0}
    assert matrix(case.store.totals().totals)[1][0] == 3
    assert case.recorder.rows == 0


def test_tables_are_there_before_the_first_row(case: Case) -> None:
    """The database is made at start, so a change of config is recorded even without predictions."""
    case.start()
    until(lambda: case.store._edition is not None)
    assert case.kept() == set()


def test_a_flush_waits_for_what_is_on_its_way(case: Case) -> None:
    """An answer that has left, but of which no note is taken yet, is waited for."""
    case.start().recorder.expect()
    assert not case.recorder.flush(0.05)
    arrived = threading.Timer(0.05, lambda: case.recorder.leave(answered(["late"])))
    arrived.start()
    assert case.recorder.flush(60)
    assert case.kept() == {"late"}
    arrived.join()


def test_a_batch_that_could_not_be_noted_holds_nobody_up(case: Case) -> None:
    """If making the note failed, the flush goes on without it."""
    case.start().recorder.expect()
    case.recorder.leave(None)
    assert case.recorder.flush(60)


def test_rows_wait_while_the_database_is_down(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Rows are stored when the database is back; one line reports the loss, and one the return."""
    case.store.down = True
    with caplog.at_level(logging.WARNING, "guardhouse"):
        case.start().answer("a")
        until(lambda: case.recorder.down)
        case.answer("b")
        tries = case.store.tries
        until(lambda: case.store.tries > tries + 2)
        assert not case.recorder.flush(60)
        case.store.down = False
        until(lambda: not case.recorder.down)
        assert case.recorder.flush(60)
    assert case.kept() == {"a", "b"}
    assert case.counts == {"stored": 2, "repeated": 0, "dropped": 0}
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "gone for a walk" in caplog.text


def test_rows_are_dropped_where_too_many_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The newest rows are dropped and counted, one line an outage is logged, and waiting rows are stored later."""
    case = Case(tmp_path, queue_rows=3)
    case.store.go.clear()  # the writer hangs on a database that does not answer
    with caplog.at_level(logging.ERROR, "guardhouse"):
        case.start().answer("a", "b")
        for _ in range(3):
            case.answer("c", "d")
        case.answer("e")
        assert case.recorder.rows == 3
        assert case.counts["dropped"] == 6
        case.store.go.set()
        assert case.recorder.flush(60)
    assert case.kept() == {"a", "b", "e"}
    assert len(caplog.records) == 1
    case.recorder.close()


def test_rows_that_cannot_be_stored_are_given_up(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Rows that the database can never take are counted as dropped, logged without their content, and do not block."""
    case.store.broken = True
    with caplog.at_level(logging.ERROR, "guardhouse"):
        case.start().answer("a")
        assert case.recorder.flush(60)
    assert case.counts == {"stored": 0, "repeated": 0, "dropped": 1}
    assert "PAYLOAD" not in caplog.text
    case.store.broken = False
    case.answer("b")
    assert case.recorder.flush(60)
    assert case.kept() == {"b"}


def test_closing_stores_what_waits(case: Case) -> None:
    """The last answers before the end are stored."""
    case.start().answer("a")
    case.recorder.close()
    assert case.kept() == {"a"}


def test_old_rows_are_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beyond the retention time go by themselves, however many there are."""
    monkeypatch.setattr("service.store.retention.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("service.store.retention.AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("service.store.prediction_log.OLD_ROWS", 2)
    monkeypatch.setattr("service.store.retention.OLD_ROWS", 2)
    case = Case(tmp_path, retention_days=1).start()
    case.answer(*"abcde", time=time.time() - 2 * 86400)
    case.answer("new", time=time.time())
    until(lambda: case.counts["stored"] == 6 and case.gone == {"age": 5, "size": 0})
    assert case.kept() == {"new"}
    case.recorder.close()


def test_without_a_store_rows_are_forgotten(tmp_path: Path) -> None:
    """Without a store nothing piles up."""
    case = Case(tmp_path)
    recorder = Recorder(None, confusion, queue_rows=3, count=case.count, count_deleted=case.deleted)
    for name in "abcdefgh":
        recorder.expect()
        recorder.leave(answered([name]))
        assert recorder.flush(60)
    assert recorder.rows == 0
    assert case.counts["dropped"] == 0
    recorder.close()


@pytest.mark.parametrize("stored", [True, False])
def test_an_idle_writer_sleeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool) -> None:
    """While no predictions come, the thread sleeps: otherwise it would take the interpreter's lock from others."""
    rounds = []
    attempt = Recorder._try
    monkeypatch.setattr(Recorder, "_try", lambda recorder: (rounds.append(1), attempt(recorder)))
    case = Case(tmp_path)
    store = LocalStore(case.store, SETTINGS) if stored else None
    recorder = Recorder(store, confusion, queue_rows=3, count=case.count, count_deleted=case.deleted)
    recorder.expect()
    recorder.leave(answered(["a"]))
    assert recorder.flush(60)
    before, began = len(rounds), time.monotonic()
    time.sleep(0.3)
    assert len(rounds) - before <= 2 + (time.monotonic() - began) / POLL_SECONDS  # thousands if it span
    recorder.close()
