"""A SQLite file is deleted under an open connection: accepted outcomes are in the file at its path."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from example_answers import answered, confusion, matrix, opened, write

from service.messages.outcomes import Outcome
from service.store.database import StoreDownError
from service.store.job_table import JobTable
from service.store.prediction_log import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a database in a folder of its own."""
    return tmp_path / "state" / "guardhouse.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Open a store that holds one prediction."""
    store = opened(f"sqlite:///{path}")
    write(store, answered(["before"]))
    yield store
    store.database.close()


def unlinked(path: Path) -> None:
    path.unlink()


def all_unlinked(path: Path) -> None:
    for file in path.parent.glob("guardhouse.db*"):
        file.unlink()


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def moved(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def replaced(path: Path) -> None:
    """Put another program's database there."""
    all_unlinked(path)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE other (a)")
    other.close()


def backup_restored(path: Path) -> None:
    """Put an earlier copy of the whole folder there, as from a backup."""
    copy = path.parent.with_name("copy")
    shutil.copytree(path.parent, copy)
    shutil.rmtree(path.parent)
    copy.rename(path.parent)


LOSSES = [unlinked, all_unlinked, folder_removed, moved, folder_moved, replaced, backup_restored]


def on_the_disk(path: Path) -> set[str]:
    """Read the ids that a program finds which opens the file now, as after kill -9."""
    copy = path.parent.with_name("as-found")
    shutil.copytree(path.parent, copy, dirs_exist_ok=True)  # with its journal; our own locks stay untouched
    connection = sqlite3.connect(copy / path.name)
    try:
        return {name for (name,) in connection.execute("SELECT id FROM predictions JOIN outcomes USING (prediction)")}
    finally:
        connection.close()


@pytest.mark.parametrize("lose", LOSSES)
def test_what_is_acknowledged_is_at_the_path(
    store: Store, path: Path, lose: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Predictions and outcomes that come after the loss are in the file at the path, and the loss is logged once."""
    lose(path)
    assert write(store, answered(["after", "later"])) == 2
    assert store.join([Outcome("after", "yes")], confusion).accepted == [0]
    assert on_the_disk(path) == {"after"}
    lost = [record.getMessage() for record in caplog.records if "deleted or replaced" in record.getMessage()]
    assert len(lost) == store.database.files_lost == 1
    assert str(path) in lost[0]


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_lost_journal_loses_nothing(store: Store, path: Path, suffix: str) -> None:
    """The journal holds the last commits: when it is deleted, they are there, and so are those that follow."""
    path.with_name(path.name + suffix).unlink()
    assert store.join([Outcome("before", "yes")], confusion).accepted == [0]
    assert write(store, answered(["after"])) == 1
    assert store.join([Outcome("after", "yes")], confusion).accepted == [0]
    assert on_the_disk(path) == {"before", "after"}
    assert matrix(store.totals().totals) == [[0, 0, 0], [2, 0, 2], [0, 0, 0]]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_file_lost_during_the_transaction_is_found_before_the_answer(
    store: Store, path: Path, lose: Callable[[Path], None]
) -> None:
    """The commit succeeds in the lost file; the outcome is then looked up again in the file at the path."""
    lost: list[Path] = []

    def slow(records: object) -> object:
        if not lost:
            lost.append(path)
            lose(path)
        return confusion(records)  # type: ignore[arg-type]

    verdict = store.join([Outcome("before", "yes")], slow)  # type: ignore[arg-type]
    expected = {"before"} if lose is backup_restored else set()
    assert [*verdict.accepted] == [0] * len(expected)
    assert verdict.unknown == [0] * (1 - len(expected))
    assert on_the_disk(path) == expected


def test_readers_see_the_file_at_the_path(store: Store, path: Path) -> None:
    """Totals are read from the file at the path, and not from the removed file."""
    folder_removed(path)
    assert store.totals().totals == {}


def test_a_folder_that_cannot_be_made_is_a_store_that_is_down(store: Store, path: Path) -> None:
    """Until the folder can be made nothing is acknowledged; then the next row is stored."""
    folder_removed(path)
    path.parent.write_text("in the way")
    with pytest.raises(StoreDownError):
        write(store, answered(["after"]))
    with pytest.raises(StoreDownError):
        store.join([Outcome("before", "yes")], confusion)
    path.parent.unlink()
    assert write(store, answered(["after"])) == 1


@pytest.mark.parametrize("where", ["journal", "file"])
def test_an_emptied_file_is_restored_or_takes_nothing(store: Store, path: Path, where: str) -> None:
    """A file cut to nothing in place: if the journal still holds everything, nothing is lost; else nothing is taken."""
    if where == "file":
        store.database.engine.dispose()  # which moves the journal into the file
        store.totals()
    path.write_bytes(b"")
    try:
        taken = [
            bool(store.join([Outcome("before", "yes")], confusion).accepted),
            bool(write(store, answered(["after"]))),
        ]
    except StoreDownError:
        taken = [False, False]
    assert taken[0] == (where == "journal")
    assert taken != [True, True] or on_the_disk(path) == {"before"}


def test_questions_for_later_are_at_the_path(store: Store, path: Path) -> None:
    """A question that was answered with 202 is in the file at the path."""
    jobs = JobTable(store, most=10, keep_seconds=60)
    assert jobs.add(b"first") is not None
    folder_removed(path)
    name = jobs.add(b"second")
    assert name is not None
    other = opened(f"sqlite:///{path}")
    job = JobTable(other, most=10, keep_seconds=60).take()
    assert job is not None
    assert (job.id, job.question) == (name, b"second")
    other.database.close()
