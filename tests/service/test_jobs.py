"""Jobs in the store, on SQLite and on PostgreSQL: leased, bounded, expiring, answered once."""

from collections.abc import Iterator

import pytest
from remembered import opened
from sqlalchemy import select, update

from service import jobs as module
from service.jobs import MOST_ATTEMPTS, Answered, Jobs
from service.store import Store
from service.tables import EXPLANATIONS


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Open an empty store."""
    store = opened(database_url)
    store.prepare()
    yield store
    store.database.close()


def made(store: Store, *, most: int = 10, keep_seconds: float = 60) -> Jobs:
    return Jobs(store, most=most, keep_seconds=keep_seconds)


def end_lease(store: Store) -> None:
    store.database.write(lambda connection: connection.execute(update(EXPLANATIONS).values(lease=0.0)))


def test_oldest_job_is_taken_first_and_once(store: Store) -> None:
    """Jobs are taken in order, and none by two at a time."""
    jobs = made(store)
    names = [jobs.add(f"question {i}".encode()) for i in range(3)]
    taken = [jobs.take() for _ in range(4)]
    assert [job and job.id for job in taken] == [*names, None]
    assert [job.question for job in taken if job] == [b"question 0", b"question 1", b"question 2"]


def test_answer_is_kept_and_the_rows_are_not(store: Store) -> None:
    """Until it is answered a job says so; then its answer is there, and its question is gone."""
    jobs = made(store)
    name = jobs.add(b"rows")
    assert name is not None
    job = jobs.take()
    assert job is not None
    waiting = jobs.get(name)
    assert waiting is not None
    assert waiting.status is None
    jobs.finish(job, Answered(200, "image/png", b"picture"))
    found = jobs.get(name)
    assert found is not None
    assert (found.status, found.media_type, found.body) == (200, "image/png", b"picture")
    asked = select(EXPLANATIONS.c.question)
    assert store.database.read(lambda connection: connection.execute(asked).scalar_one()) == b""
    jobs.finish(job, Answered(500, "x", b"late"))  # another server was faster
    assert jobs.get(name).body == b"picture"


def test_abandoned_job_is_taken_again_but_not_for_ever(store: Store) -> None:
    """A job whose server is gone goes to the next, until it has taken down too many."""
    jobs = made(store)
    jobs.add(b"poison")
    attempts = []
    for _ in range(MOST_ATTEMPTS + 1):
        job = jobs.take()
        assert job is not None
        attempts.append((job.attempts, job.hopeless))
        assert jobs.take() is None  # it is leased
        end_lease(store)
    assert attempts == [(i, i > MOST_ATTEMPTS) for i in range(1, MOST_ATTEMPTS + 2)]


def test_job_that_is_left_counts_no_attempt(store: Store) -> None:
    """A server that leaves in order gives its job back as it was."""
    jobs = made(store)
    jobs.add(b"x")
    for _ in range(5):
        job = jobs.take()
        assert job is not None
        assert job.attempts == 1
        jobs.leave(job)


def test_held_job_stays_with_its_server(store: Store) -> None:
    """Who says that it is still at it keeps it."""
    jobs = made(store)
    jobs.add(b"x")
    job = jobs.take()
    assert job is not None
    end_lease(store)
    jobs.hold(job)
    assert jobs.take() is None


def test_restart_frees_what_nobody_else_can_be_at(store: Store) -> None:
    """Alone on its database a server takes up its jobs at once; beside others it waits for the lease."""
    jobs = made(store)
    jobs.add(b"x")
    jobs.take()
    made(store).free()
    assert (jobs.take() is None) is store.shared


def test_jobs_are_bounded_and_expire(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing is kept, until something has expired; what has expired is nowhere."""
    jobs = made(store, most=2)
    first = jobs.add(b"1")
    assert first is not None
    assert jobs.add(b"2") is not None
    assert jobs.add(b"3") is None
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 61)
    assert jobs.get(first) is None
    assert jobs.take() is None
    assert jobs.add(b"4") is not None


def test_unknown_job_is_none(store: Store) -> None:
    """Nobody's id has no answer, whatever is in it."""
    for name in ("", "x", "'; --", "a" * 500):
        assert made(store).get(name) is None
