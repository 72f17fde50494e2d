"""The store in the process that asks: the prediction log with its retention, its other servers and its jobs."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from guards.config.store import StoreConfig
from service.messages.monitor_changes import Change, Changed
from service.messages.outcomes import Outcome
from service.messages.scope import Scope
from service.monitoring.sums import Sums, Tally
from service.steady_clock import SteadyClock
from service.store.database import Database
from service.store.database_url import parse_url
from service.store.job_table import JobTable
from service.store.outcomes import Learnt
from service.store.prediction_log import Store
from service.store.replicas import Replicas, own_name
from service.store.retention import Retention
from service.store.rows import Answered, Block
from service.store.served_versions import Edition
from service.store.store_client import Upkeep

__all__ = ["LocalStore", "StoreSettings"]


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What a store has to know: what is served, how much is kept, and how many jobs for how many seconds."""

    edition: Edition
    limits: StoreConfig
    max_jobs: int
    keep_jobs_seconds: float

    def written(self) -> dict[str, Any]:
        """Write the settings as plain data."""
        return {**asdict(self), "limits": self.limits.model_dump(mode="json")}

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Self:
        """Read what :meth:`written` wrote."""
        edition = {**written["edition"], "classes": tuple(written["edition"]["classes"])}
        limits = StoreConfig.model_validate(written["limits"])
        return cls(Edition(**edition), limits, written["max_jobs"], written["keep_jobs_seconds"])


class LocalStore:
    """Implements :class:`service.store.store_client.StoreClient` over a prediction log."""

    def __init__(self, log: Store, settings: StoreSettings, name: str | None = None) -> None:
        """Use a log. ``name`` is this server's name among the servers of the database; by default its own address."""
        self._log = log
        self.trouble = threading.Event()
        """Nothing here ends a question before the database does."""
        self._deleted: dict[str, int] = {}
        self._place: int | None = 0
        """From which row on the totals may not be corrected yet, if a change was interrupted; None if all are."""
        clock = SteadyClock()
        self._retention = Retention(log, settings.limits, self._note_deleted, clock)
        self._replicas = Replicas(log, name or own_name())
        self.jobs = JobTable(log, most=settings.max_jobs, keep_seconds=settings.keep_jobs_seconds, clock=clock.now)

    @classmethod
    def open(cls, url: str, settings: StoreSettings) -> Self:
        """Prepare to connect to the database at ``url``.

        Raises:
            Mistake: the URL is malformed, or the database cannot be used.
        """
        return cls(Store(Database(parse_url(url)), settings.edition), settings)

    def prepare(self) -> None:
        """Migrate the tables and record what is served, unless that is done."""
        self._log.prepare()

    def write(self, batches: Sequence[Answered], tally: Tally) -> int:
        """Store answered rows in one transaction, count them with ``tally``, and return how many rows were new."""
        edition = self._log.edition
        block = Block(
            batches,
            classes=edition.classes,
            guards=tuple(edition.thresholds),
            on_purpose=edition.on_purpose,
        )
        return self._log.write(block, tally(block.records), tally)

    def join(self, outcomes: Sequence[Outcome], tally: Tally) -> Learnt:
        """Store outcomes of known predictions, and count them with ``tally``; each outcome counts once."""
        return self._log.join(outcomes, tally)

    def totals(self, scope: Scope) -> Sums:
        """Give the totals of a scope."""
        return self._log.totals(scope)

    def change(self, change: Change, tally: Tally) -> Changed:
        """Record a change of the monitors, and correct the totals, counting rows with ``tally``."""
        try:
            return self._log.change(change, tally)
        except BaseException:
            self._place = 0  # some rows may not be corrected yet
            raise

    def sweep(self, tally: Tally) -> None:
        """Look at some rows, and correct the totals if a change was interrupted; :meth:`upkeep` says if more remain."""
        if self._place is not None:
            _, self._place = self._log.sweep(self._place, tally)

    def upkeep(self) -> Upkeep:
        """Delete some old rows if there are any, and look what other servers ask."""
        self._retention.keep()
        self.jobs.keep()
        deleted, self._deleted = self._deleted, {}
        unswept = self._place is not None
        return Upkeep(self._retention.figures, deleted, self._replicas.asked(), self._log.standing(), unswept)

    def enter(self) -> None:
        """Enter this server among the servers of the database."""
        self._replicas.enter()

    def settle(self, number: int) -> None:
        """Tell other servers that every row is stored that was answered before this number was asked for."""
        self._replicas.settle(number)

    def _note_deleted(self, reason: str, rows: int) -> None:
        self._deleted[reason] = self._deleted.get(reason, 0) + rows

    def ask_others(self) -> Mapping[str, int]:
        """Ask all other servers to store their answered rows; return the number that each of them has to settle."""
        return self._replicas.ask()

    def behind(self, asked: Mapping[str, int]) -> list[str]:
        """List the servers that have not settled their number yet."""
        return self._replicas.behind(asked)

    def strike(self, names: list[str]) -> None:
        """Declare servers dead."""
        self._replicas.strike(names)

    def leave(self) -> None:
        """Tell other servers that this server has stored every row, and answers no more."""
        self._replicas.leave()

    def close(self) -> None:
        """Close the connections to the database."""
        self._log.database.close()
