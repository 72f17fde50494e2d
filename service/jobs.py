"""Explanations that outlast the request that asked for them, and the server that was at them."""

import secrets
import time
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from service.store import Store
from service.tables import EXPLANATIONS

__all__ = ["Answered", "Job", "Jobs"]

LEASE_SECONDS = 15.0
"""How long a job is left to a server that has stopped saying that it is at it."""
MOST_ATTEMPTS = 3
TABLE = EXPLANATIONS.c


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A question that nobody is at; ``attempts`` counts this one."""

    id: str
    bundle: str
    attempts: int
    question: bytes

    @property
    def hopeless(self) -> bool:
        """Whether it took down too many servers, or processes, before."""
        return self.attempts > MOST_ATTEMPTS


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """An answer as it is to be sent; ``status`` is None while there is none."""

    status: int | None
    media_type: str = ""
    body: bytes = b""


class Jobs:
    """One model's jobs in the store: bounded in number, leased while somebody is at them, gone when they expire.

    Every method raises StoreDownError where the database cannot be reached.
    """

    def __init__(self, store: Store, *, most: int, keep_seconds: float) -> None:
        self._store, self._most, self._keep_seconds = store, most, keep_seconds
        self._model, self._bundle = store.edition.model, store.edition.bundle

    @property
    def shared(self) -> bool:
        """Whether other servers may take jobs of this one, and leave theirs."""
        return self._store.shared

    def add(self, question: bytes) -> str | None:
        """Keep a question, and give its id; None where there are too many already."""
        name, now = secrets.token_urlsafe(24), time.time()

        def work(connection: Connection) -> bool:
            connection.execute(delete(EXPLANATIONS).where(TABLE.expires < now))
            asked = select(func.count()).select_from(EXPLANATIONS).where(TABLE.model == self._model)
            if connection.execute(asked).scalar_one() >= self._most:
                return False
            row = {"explanation": name, "model": self._model, "bundle": self._bundle, "time": now, "question": question,
                   "expires": now + self._keep_seconds, "lease": 0.0, "attempts": 0}  # fmt: skip
            connection.execute(insert(EXPLANATIONS).values(row))
            return True

        return name if self._store.transact(work) else None

    def get(self, name: str) -> Answered | None:
        """Give the answer of an id, or None where there is no such job, or no more."""
        asked = select(TABLE.status, TABLE.media_type, TABLE.answer).where(
            TABLE.explanation == name, TABLE.model == self._model, TABLE.expires >= time.time()
        )
        row = self._store.query(lambda connection: connection.execute(asked).one_or_none())
        return None if row is None else Answered(row[0], row[1] or "", row[2] or b"")

    def take(self) -> Job | None:
        """Take the oldest job that nobody is at, where there is one."""
        now = time.time()
        free = select(TABLE.explanation).where(
            TABLE.model == self._model, TABLE.status.is_(None), TABLE.lease < now, TABLE.expires >= now
        )
        if self.shared:  # others may serve another bundle of this model, and are to answer for it themselves
            free = free.where(TABLE.bundle == self._bundle)
        free = free.order_by(TABLE.time).limit(1).with_for_update(skip_locked=True)
        taken = (
            update(EXPLANATIONS)
            .where(TABLE.explanation == free.scalar_subquery())
            .values(lease=now + LEASE_SECONDS, attempts=TABLE.attempts + 1)
            .returning(TABLE.explanation, TABLE.bundle, TABLE.attempts, TABLE.question)
        )
        row = self._store.transact(lambda connection: connection.execute(taken).one_or_none())
        return None if row is None else Job(*row)

    def hold(self, job: Job) -> None:
        """Say that somebody is still at it."""
        self._set(job, lease=time.time() + LEASE_SECONDS)

    def leave(self, job: Job) -> None:
        """Let somebody else have it, as if this attempt had not been."""
        self._set(job, lease=0.0, attempts=job.attempts - 1)

    def finish(self, job: Job, answer: Answered) -> None:
        """Keep the answer, and forget the rows."""
        self._set(job, status=answer.status, media_type=answer.media_type, answer=answer.body, question=b"")

    def free(self) -> None:
        """Free what an earlier process was at when it ended, where nobody else can be at it."""
        if not self.shared:
            mine = update(EXPLANATIONS).where(TABLE.model == self._model, TABLE.status.is_(None)).values(lease=0.0)
            self._store.transact(lambda connection: connection.execute(mine))

    def _set(self, job: Job, **values: object) -> None:
        changed = update(EXPLANATIONS).where(TABLE.explanation == job.id, TABLE.status.is_(None)).values(**values)
        self._store.transact(lambda connection: connection.execute(changed))
