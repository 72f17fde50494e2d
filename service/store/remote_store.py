"""The store in a process of its own, as the engine asks it."""

import logging
import math
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from service.messages.explanations import ExplainAnswer
from service.messages.monitor_changes import Change, Changed
from service.messages.outcomes import Outcome
from service.messages.scope import Scope
from service.monitoring.sums import Sums, Tally
from service.store.database import StoreDownError
from service.store.job_table import StoredJob
from service.store.local_store import StoreSettings
from service.store.outcomes import Learnt
from service.store.rows import Answered
from service.store.store_client import Upkeep
from service.store.store_process import StoreProcess
from service.store.store_wire import COUNT, DONE, DOWN, receive, send

__all__ = ["RemoteStore", "StoreFaultError"]

LOG = logging.getLogger("guardhouse")
ANSWER_SECONDS = 120.0
"""How long the process may take to answer. A migration of many rows takes long, and a busy database may be slow."""
READ_SECONDS = 10.0
"""How long a report waits for totals."""
LATE_SECONDS, LOOK_SECONDS = 5.0, 0.25
"""If the recorder has no answer for so many seconds, the store counts as down; how often a question looks for that."""
MIGRATION_SECONDS = 30.0
"""The same for the first question, which may have to migrate the tables."""
GONE = "the store's process has ended or does not answer"
REFUSED = "the store is down"
LATE = "the store is down, and predictions go on: the database has not answered for %g s"


class StoreFaultError(Exception):
    """The store's process failed while it worked on a question; its log says where."""


class RemoteStore:
    """Implements :class:`service.store.store_client.StoreClient` by questions to a process of its own."""

    def __init__(self, path: Path, url: str, settings: StoreSettings) -> None:
        """Start the process, which listens on a Unix socket at ``path``, and wait until it is ready.

        Raises:
            Mistake: the database at ``url`` cannot be used, or the process could not be started.
        """
        self._path = str(path)
        self.trouble = threading.Event()
        self._idle: list[Connection[Any, Any]] = []
        self._lock = threading.Lock()
        self._process = StoreProcess(path, url, settings)
        self.jobs = RemoteJobs(self.ask, shared=self._process.shared)

    def close(self) -> None:
        """Let the process finish its transactions and end."""
        self._forget()
        self._process.close()

    def ask(
        self,
        method: str,
        *arguments: object,
        tally: Tally | None = None,
        seconds: float = ANSWER_SECONDS,
        late_after: float | None = None,
    ) -> Any:  # noqa: ANN401 - what the method returns
        """Call a method of the store in its process.

        The recorder's questions say after how many seconds the database is late (``late_after``). They go on waiting,
        so that the recorder notices when the database answers again. Every other question ends with StoreDownError as
        soon as the recorder has trouble.

        Raises:
            StoreDownError: the database or the process cannot be reached, or does not answer within ``seconds``.
            StoreFaultError: the method failed.
        """
        if self.trouble.is_set() and late_after is None:
            raise StoreDownError(REFUSED)
        connection = self._connection()
        try:
            send(connection, (method, arguments))
            while True:
                self._wait(connection, seconds, late_after)
                kind, content = receive(connection)
                if kind != COUNT or tally is None:
                    break
                send(connection, tally(content))
        except (EOFError, OSError, pickle.UnpicklingError):
            connection.close()
            self._forget()  # if the process has ended, these are useless too
            raise StoreDownError(GONE) from None
        except BaseException:  # the process waits for counts that do not come: it rolls back when the connection closes
            connection.close()
            raise
        with self._lock:
            self._idle.append(connection)
        if kind == DONE:
            return content
        if kind == DOWN:
            raise StoreDownError(content)
        raise StoreFaultError(content)

    def _wait(self, connection: "Connection[Any, Any]", seconds: float, late_after: float | None) -> None:
        """Wait for a message.

        Looks are counted, and not the time: if this process itself stalls, the database was not late.

        Raises:
            TimeoutError: there is no message within ``seconds``.
            StoreDownError: the recorder has trouble with the database.
        """
        for look in range(1, math.ceil(seconds / LOOK_SECONDS) + 1):
            if connection.poll(LOOK_SECONDS):
                return
            if late_after is None and self.trouble.is_set():
                raise StoreDownError(REFUSED)
            if late_after is not None and look * LOOK_SECONDS >= late_after and not self.trouble.is_set():
                self.trouble.set()
                LOG.error(LATE, late_after)
        raise TimeoutError

    def _connection(self) -> "Connection[Any, Any]":
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            return Client(self._path, "AF_UNIX")
        except OSError:
            raise StoreDownError(GONE) from None

    def _forget(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def prepare(self) -> None:
        """Migrate the tables and record what is served, unless that is done.

        If migrating takes longer than a question may take, the process goes on, and the next call waits for it.
        """
        self.ask("prepare", late_after=MIGRATION_SECONDS)

    def write(self, batches: Sequence[Answered], tally: Tally) -> int:
        """Store answered rows in one transaction, count them with ``tally``, and return how many rows were new."""
        return int(self.ask("write", batches, tally=tally, late_after=LATE_SECONDS))

    def join(self, outcomes: Sequence[Outcome], tally: Tally) -> Learnt:
        """Store outcomes of known predictions, and count them with ``tally``; each outcome counts once."""
        joined: Learnt = self.ask("join", outcomes, tally=tally)
        return joined

    def totals(self, scope: Scope) -> Sums:
        """Give the totals of a scope."""
        sums: Sums = self.ask("totals", scope, seconds=READ_SECONDS)
        return sums

    def change(self, change: Change, tally: Tally) -> Changed:
        """Record a change of the monitors, and correct the totals, counting rows with ``tally``."""
        changed: Changed = self.ask("change", change, tally=tally)
        return changed

    def sweep(self, tally: Tally) -> None:
        """Look at some rows, and correct the totals if a change was interrupted; :meth:`upkeep` says if more remain."""
        self.ask("sweep", tally=tally, late_after=LATE_SECONDS)

    def upkeep(self) -> Upkeep:
        """Delete some old rows if there are any, and look what other servers ask."""
        upkeep: Upkeep = self.ask("upkeep", late_after=LATE_SECONDS)
        return upkeep

    def enter(self) -> None:
        """Enter this server among the servers of the database."""
        self.ask("enter", late_after=LATE_SECONDS)

    def settle(self, number: int) -> None:
        """Tell other servers that every row is stored that was answered before this number was asked for."""
        self.ask("settle", number, late_after=LATE_SECONDS)

    def ask_others(self) -> Mapping[str, int]:
        """Ask all other servers to store their answered rows; return the number that each of them has to settle."""
        asked: Mapping[str, int] = self.ask("ask_others")
        return asked

    def behind(self, asked: Mapping[str, int]) -> list[str]:
        """List the servers that have not settled their number yet."""
        names: list[str] = self.ask("behind", asked)
        return names

    def strike(self, names: list[str]) -> None:
        """Declare servers dead."""
        self.ask("strike", names)

    def leave(self) -> None:
        """Tell other servers that this server has stored every row, and answers no more."""
        self.ask("leave", late_after=LATE_SECONDS)


class RemoteJobs:
    """Implements :class:`service.store.store_client.Jobs` by questions to the store's process."""

    def __init__(self, ask: Callable[..., Any], *, shared: bool) -> None:
        self._ask, self.shared = ask, shared

    def add(self, question: bytes, owner: str | None = None, most_of_owner: int | None = None) -> str | None:
        """Keep a question, and give the name of its job; None or "" if too many are kept, of all or of its owner."""
        name: str | None = self._ask("jobs.add", question, owner, most_of_owner)
        return name

    def get(self, name: str) -> ExplainAnswer:
        """Give the answer of a job."""
        answer: ExplainAnswer = self._ask("jobs.get", name)
        return answer

    def take(self) -> StoredJob | None:
        """Reserve the oldest job that no server works on; None if there is no such job."""
        job: StoredJob | None = self._ask("jobs.take")
        return job

    def hold(self, job: StoredJob) -> None:
        """Extend the time for which a job is reserved for this server."""
        self._ask("jobs.hold", job)

    def leave(self, job: StoredJob) -> None:
        """Give a job back without counting this attempt."""
        self._ask("jobs.leave", job)

    def finish(self, job: StoredJob, answer: ExplainAnswer) -> None:
        """Store the answer of a job, and delete the job's rows."""
        self._ask("jobs.finish", job, answer)

    def free(self) -> None:
        """Give back the jobs that an earlier process had reserved, unless other servers use the same table."""
        self._ask("jobs.free")
