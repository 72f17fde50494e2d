"""The store's table of jobs: explanations that are computed after the request that asked for them has been answered.

A job survives a restart of the server. When a job ends or expires, its question is overwritten, because the question
holds rows.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update

from service.messages.explanations import ExplainAnswer, Status
from service.messages.row_name import row_name
from service.store.prediction_log import Store
from service.store.tables import EXPLANATIONS

__all__ = ["JobTable", "StoredJob"]

LEASE_SECONDS = 15.0
"""How long a job stays reserved for a server after the server last said that it works on the job."""
MOST_ATTEMPTS = 3
EXPIRY_SECONDS = 10.0
"""How often expired jobs are deleted."""
TABLE = EXPLANATIONS.c
PNG, JSON, PROBLEM = "image/png", "application/json", "application/problem+json"
NUMBERS: dict[Status, int] = {"ok": 200, "unfit": 422, "fault": 500, "replaced": 503, "timeout": 504}
"""The numbers that the table stores for how a job ended. They stay as they are, because a server of an earlier version
may use the same table."""
STATUSES = {number: status for status, number in NUMBERS.items()}


@dataclass(frozen=True, slots=True, eq=False)
class StoredJob:
    """A job that this server has reserved for itself; ``attempts`` includes the current attempt."""

    id: str
    bundle: str
    attempts: int
    question: bytes

    @property
    def hopeless(self) -> bool:
        """Whether the job was tried too often; each earlier attempt ended with its process."""
        return self.attempts > MOST_ATTEMPTS


class JobTable:
    """One model's jobs: bounded in number, leased while a server works on them, and deleted when they expire.

    Every method raises StoreDownError if the database cannot be reached.
    """

    def __init__(self, store: Store, *, most: int, keep_seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Keep ``most`` jobs, each for so many seconds by a ``clock``, which gives the seconds since 1970."""
        self._store, self._most, self._keep_seconds, self._clock = store, most, keep_seconds, clock
        self._model, self._bundle = store.edition.model, store.edition.bundle
        self._journal_holds_questions = True
        """Whether SQLite's journal may hold questions of jobs that have ended, also of an earlier process."""
        self._look_at = time.monotonic()

    @property
    def shared(self) -> bool:
        """Whether other servers use the same table: each server may take jobs that another server has left."""
        return self._store.shared

    def add(self, question: bytes, owner: str | None = None, most_of_owner: int | None = None) -> str | None:
        """Keep a question of a principal, and give the name of its job.

        Return None if too many jobs are kept already, and "" if too many are kept for this principal.
        """
        name, now = row_name(owner, secrets.token_urlsafe(24)), self._clock()

        def work(connection: Connection) -> str | None:
            connection.execute(delete(EXPLANATIONS).where(TABLE.expires < now))
            asked = select(func.count()).select_from(EXPLANATIONS).where(TABLE.model == self._model)
            if connection.execute(asked).scalar_one() >= self._most:
                return None
            if most_of_owner is not None:
                mine = asked.where(TABLE.explanation.startswith(row_name(owner, ""), autoescape=True))
                if connection.execute(mine).scalar_one() >= most_of_owner:
                    return ""
            row = {"explanation": name, "model": self._model, "bundle": self._bundle, "time": now, "question": question,
                   "expires": now + self._keep_seconds, "lease": 0.0, "attempts": 0}  # fmt: skip
            connection.execute(insert(EXPLANATIONS).values(row))
            return name

        return self._store.transact(work)

    def get(self, name: str) -> ExplainAnswer:
        """Give the answer of a job; its status is ``waiting`` before the job's end, ``unknown`` without such a job."""
        asked = select(TABLE.status, TABLE.media_type, TABLE.answer).where(
            TABLE.explanation == name, TABLE.model == self._model, TABLE.expires >= self._clock()
        )
        row = self._store.query(lambda connection: connection.execute(asked).one_or_none())
        if row is None:
            return ExplainAnswer("unknown")
        return ExplainAnswer("waiting") if row[0] is None else _read(row[0], row[1] or "", row[2] or b"")

    def take(self) -> StoredJob | None:
        """Reserve the oldest job that no server works on; None if there is no such job."""
        now = self._clock()
        free = select(TABLE.explanation).where(
            TABLE.model == self._model, TABLE.status.is_(None), TABLE.lease < now, TABLE.expires >= now
        )
        if self.shared:  # another server may serve another bundle of this model, and runs that bundle's jobs itself
            free = free.where(TABLE.bundle == self._bundle)
        free = free.order_by(TABLE.time).limit(1).with_for_update(skip_locked=True)
        taken = (
            update(EXPLANATIONS)
            .where(TABLE.explanation == free.scalar_subquery())
            .values(lease=now + LEASE_SECONDS, attempts=TABLE.attempts + 1)
            .returning(TABLE.explanation, TABLE.bundle, TABLE.attempts, TABLE.question)
        )
        row = self._store.transact(lambda connection: connection.execute(taken).one_or_none())
        return None if row is None else StoredJob(*row)

    def hold(self, job: StoredJob) -> None:
        """Extend the time for which a job is reserved for this server."""
        self._set(job, lease=self._clock() + LEASE_SECONDS)

    def leave(self, job: StoredJob) -> None:
        """Give a job back without counting this attempt."""
        self._set(job, lease=0.0, attempts=job.attempts - 1)

    def finish(self, job: StoredJob, answer: ExplainAnswer) -> None:
        """Store the answer of a job, and delete the job's rows."""
        media_type, body = _written(answer)
        self._set(job, status=NUMBERS[answer.status], media_type=media_type, answer=body, question=b"")
        self._journal_holds_questions = True

    def keep(self) -> None:
        """Delete expired jobs, and overwrite the questions of jobs that have ended; call this regularly."""
        if self._look_at <= time.monotonic():
            self._look_at = time.monotonic() + EXPIRY_SECONDS
            expired = TABLE.expires < self._clock()
            some = select(TABLE.explanation).where(expired).limit(1)
            if self._store.query(lambda connection: connection.execute(some).first()) is not None:
                self._store.transact(lambda connection: connection.execute(delete(EXPLANATIONS).where(expired)))
                self._journal_holds_questions = True
        if self._journal_holds_questions:
            self._journal_holds_questions = False  # first, because another thread may set it at any moment
            self._journal_holds_questions |= not self._store.database.empty_journal()

    def free(self) -> None:
        """Give back the jobs that an earlier process had reserved, unless other servers use the same table."""
        if not self.shared:
            mine = update(EXPLANATIONS).where(TABLE.model == self._model, TABLE.status.is_(None)).values(lease=0.0)
            self._store.transact(lambda connection: connection.execute(mine))

    def _set(self, job: StoredJob, **values: object) -> None:
        changed = update(EXPLANATIONS).where(TABLE.explanation == job.id, TABLE.status.is_(None)).values(**values)
        self._store.transact(lambda connection: connection.execute(changed))


def _written(answer: ExplainAnswer) -> tuple[str, bytes]:
    """Write an answer as the table keeps it: its media type and its bytes."""
    if answer.status == "ok":
        return PNG if answer.picture else JSON, answer.body
    errors = [{"loc": list(place), "msg": sentence} for place, sentence in answer.faults]
    return PROBLEM, orjson.dumps({"detail": "the rows could not be explained", "errors": errors})


def _read(number: int, media_type: str, body: bytes) -> ExplainAnswer:
    """Read an answer that :func:`_written` or a server of an earlier version wrote."""
    status = STATUSES[number]
    if status == "ok":
        return ExplainAnswer("ok", body, picture=media_type == PNG)
    faults = [(tuple(error["loc"]), error["msg"]) for error in orjson.loads(body)["errors"]]
    return ExplainAnswer(status, faults=faults)
