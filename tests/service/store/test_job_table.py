"""Jobs in the store, on SQLite and on PostgreSQL: they are leased, bounded, expire, and are answered once."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_answers import SETTINGS, opened
from sqlalchemy import select, update

from service.messages.explanations import ExplainAnswer
from service.store import job_table as module
from service.store.job_table import MOST_ATTEMPTS, NUMBERS, JobTable
from service.store.local_store import LocalStore
from service.store.prediction_log import Store
from service.store.tables import EXPLANATIONS


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Open an empty store."""
    store = opened(database_url)
    store.prepare()
    yield store
    store.database.close()


def made(store: Store, *, most: int = 10, keep_seconds: float = 60) -> JobTable:
    return JobTable(store, most=most, keep_seconds=keep_seconds)


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
    """A job waits until it is answered; then its answer is there, and its question is deleted."""
    jobs = made(store)
    name = jobs.add(b"rows")
    assert name is not None
    job = jobs.take()
    assert job is not None
    assert jobs.get(name).status == "waiting"
    jobs.finish(job, ExplainAnswer("ok", b"picture", picture=True))
    found = jobs.get(name)
    assert (found.status, found.picture, found.body) == ("ok", True, b"picture")
    asked = select(EXPLANATIONS.c.question)
    assert store.database.read(lambda connection: connection.execute(asked).scalar_one()) == b""
    jobs.finish(job, ExplainAnswer("fault"))  # another server was faster
    assert jobs.get(name).body == b"picture"


def test_abandoned_job_is_taken_again_but_not_for_ever(store: Store) -> None:
    """A job whose server is gone goes to the next server, until the job has ended too many."""
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
    """A server that says that it still works on a job keeps the job."""
    jobs = made(store)
    jobs.add(b"x")
    job = jobs.take()
    assert job is not None
    end_lease(store)
    jobs.hold(job)
    assert jobs.take() is None


def test_restart_frees_what_no_other_server_works_on(store: Store) -> None:
    """A server alone on its database takes up its jobs at once; a server beside others waits for the lease."""
    jobs = made(store)
    jobs.add(b"x")
    jobs.take()
    made(store).free()
    assert (jobs.take() is None) is store.shared


def test_jobs_are_bounded_and_expire(store: Store) -> None:
    """Beyond the bound no job is kept until another has expired; an expired job is unknown and is never run."""
    now = module.time.time()
    jobs = JobTable(store, most=2, keep_seconds=60, clock=lambda: now)
    first = jobs.add(b"1")
    assert first is not None
    assert jobs.add(b"2") is not None
    assert jobs.add(b"3") is None
    now += 61
    assert jobs.get(first).status == "unknown"
    assert jobs.take() is None
    assert jobs.add(b"4") is not None


@pytest.mark.parametrize("end", ["answered", "failed", "expired"])
def test_no_file_holds_the_rows_of_a_job_that_has_ended(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next upkeep, the bytes of the question are in no file of the database, if somebody reads or not."""
    store = LocalStore.open(f"sqlite:///{tmp_path / 'x.db'}", SETTINGS)
    rows = b"a row of a person " * 700
    for _ in range(3):
        store.jobs.add(rows)
        store.upkeep()

    def held() -> bool:
        return any(b"a row of a person" in path.read_bytes() for path in tmp_path.iterdir())

    assert held()
    reader = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM explanations").fetchone()
    if end == "expired":
        now = module.time.time()
        monkeypatch.setattr(module, "EXPIRY_SECONDS", 0)
        store.jobs._look_at = 0
        monkeypatch.setattr(store.jobs, "_clock", lambda: now + 61)
    for _ in range(3):
        if end != "expired":
            job = store.jobs.take()
            assert job is not None
            store.jobs.finish(job, ExplainAnswer("ok" if end == "answered" else "fault", b"{}"))
    store.upkeep()
    assert held()  # the reader still sees the questions
    reader.execute("COMMIT")
    store.upkeep()
    assert not held()
    reader.close()
    store.close()


def test_unknown_job_is_unknown(store: Store) -> None:
    """An id that was never given has no answer, whatever characters it has."""
    for name in ("", "x", "'; --", "a" * 500):
        assert made(store).get(name).status == "unknown"


@pytest.mark.parametrize(
    "answer",
    [
        ExplainAnswer("ok", b'{"explanations":[]}'),
        ExplainAnswer("unfit", faults=[(("instances", 1), "withheld"), (("parameters", "steps"), "from 1 to 256")]),
        *(ExplainAnswer(status) for status in NUMBERS if status not in {"ok", "unfit"}),
    ],
    ids=lambda answer: answer.status,
)
def test_every_answer_is_kept_as_it_was_given(store: Store, answer: ExplainAnswer) -> None:
    """The table gives back every answer of a job, with every place and sentence."""
    jobs = made(store)
    name = jobs.add(b"x")
    job = jobs.take()
    assert name is not None
    assert job is not None
    jobs.finish(job, answer)
    found = jobs.get(name)
    assert (found.frame(), list(found.faults)) == (answer.frame(), list(answer.faults))


def test_an_answer_of_an_earlier_version_is_read(store: Store) -> None:
    """A problem document that an earlier version stored is given with its places and sentences."""
    jobs = made(store)
    name = jobs.add(b"x")
    assert name is not None
    document = (
        b'{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"the body has 1 fault",'
        b'"request_id":"r","errors":[{"loc":["instances",1],"msg":"withheld"}]}'
    )
    row = update(EXPLANATIONS).values(status=422, media_type="application/problem+json", answer=document)
    store.database.write(lambda connection: connection.execute(row))
    found = jobs.get(name)
    assert (found.status, found.faults) == ("unfit", [(("instances", 1), "withheld")])
