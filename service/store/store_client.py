"""What the engine asks of the store. The store is in a process of its own, or in the process that asks."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.messages.explanations import ExplainAnswer
from service.messages.monitor_changes import Change, Changed, Standing
from service.messages.outcomes import Outcome
from service.messages.scope import Scope
from service.monitoring.sums import Sums, Tally
from service.store.job_table import StoredJob
from service.store.outcomes import Learnt
from service.store.rows import Answered
from service.telemetry.store_figures import StoreFigures

__all__ = ["Jobs", "StoreClient", "Upkeep"]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the store did and found at one upkeep.

    ``deleted`` is how many rows were deleted since the last upkeep, by reason (``age`` or ``size``). ``asked`` is the
    number that this server is asked to settle; None if the server is not entered among the database's servers.
    ``standing`` is what admins changed about the monitors. ``unswept`` says whether :meth:`StoreClient.sweep` has work:
    it has some after a start, and after a change that was interrupted.
    """

    figures: StoreFigures
    deleted: Mapping[str, int] = field(default_factory=dict)
    asked: int | None = None
    standing: Standing = field(default_factory=Standing)
    unswept: bool = False


class Jobs(Protocol):
    """The store's table of jobs. Every method raises StoreDownError if the store cannot be reached."""

    @property
    def shared(self) -> bool:
        """Whether other servers use the same table: each server may take jobs that another server has left."""
        ...

    def add(self, question: bytes, owner: str | None = None, most_of_owner: int | None = None) -> str | None:
        """Keep a question, and give the name of its job; None or "" if too many are kept, of all or of its owner."""
        ...

    def get(self, name: str) -> ExplainAnswer:
        """Give the answer of a job; its status is ``waiting`` before the job's end, ``unknown`` without such a job."""
        ...

    def take(self) -> StoredJob | None:
        """Reserve the oldest job that no server works on; None if there is no such job."""
        ...

    def hold(self, job: StoredJob) -> None:
        """Extend the time for which a job is reserved for this server."""
        ...

    def leave(self, job: StoredJob) -> None:
        """Give a job back without counting this attempt."""
        ...

    def finish(self, job: StoredJob, answer: ExplainAnswer) -> None:
        """Store the answer of a job, and delete the job's rows."""
        ...

    def free(self) -> None:
        """Give back the jobs that an earlier process had reserved, unless other servers use the same table."""
        ...


class StoreClient(Protocol):
    """The store of one served bundle. Any thread may call any method.

    Every method but :meth:`close` raises StoreDownError if the store cannot be reached. The work may or may not be done
    then; the same work may be asked for again.
    """

    @property
    def trouble(self) -> threading.Event:
        """Set while the recorder has trouble: its last question failed, or has waited too long for the database.

        Then every other question to a store in another process is refused. The recorder clears the event.
        """
        ...

    @property
    def jobs(self) -> Jobs:
        """The explanations that are computed later."""
        ...

    def prepare(self) -> None:
        """Migrate the tables and record what is served, unless that is done."""
        ...

    def write(self, batches: Sequence[Answered], tally: Tally) -> int:
        """Store answered rows in one transaction, count them with ``tally``, and return how many rows were new.

        If a row's id is already stored, the row is neither stored nor counted.
        """
        ...

    def join(self, outcomes: Sequence[Outcome], tally: Tally) -> Learnt:
        """Store outcomes of known predictions, and count them with ``tally``; each outcome counts once."""
        ...

    def totals(self, scope: Scope) -> Sums:
        """Give the totals of all servers over the rows of the served bundle, or of a wider scope."""
        ...

    def change(self, change: Change, tally: Tally) -> Changed:
        """Record a change of the monitors, and correct the totals, counting rows with ``tally``."""
        ...

    def sweep(self, tally: Tally) -> None:
        """Look at some rows, and correct the totals if a change was interrupted; :meth:`upkeep` says if more remain."""
        ...

    def upkeep(self) -> Upkeep:
        """Delete some old rows if there are any, and look what other servers ask; call this regularly."""
        ...

    def enter(self) -> None:
        """Enter this server among the servers of the database."""
        ...

    def settle(self, number: int) -> None:
        """Tell other servers that every row is stored that was answered before this number was asked for."""
        ...

    def ask_others(self) -> Mapping[str, int]:
        """Ask all other servers to store their answered rows; return the number that each of them has to settle."""
        ...

    def behind(self, asked: Mapping[str, int]) -> list[str]:
        """List the servers that have not settled their number yet."""
        ...

    def strike(self, names: list[str]) -> None:
        """Declare servers dead."""
        ...

    def leave(self) -> None:
        """Tell other servers that this server has stored every row, and answers no more."""
        ...

    def close(self) -> None:
        """Close the connections to the database."""
        ...
