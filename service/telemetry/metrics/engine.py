"""The engine's counters and histograms: rows, guards, batches, the store's rows, outcomes and explanations."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from service.messages.answer import LEFT_OUT, Answer
from service.messages.outcomes import RESULTS, Joined
from service.messages.seat import Seat
from service.telemetry.metrics.families import Counters, Histograms
from service.telemetry.metrics.seat_counts import SECONDS, SeatCounts, stage_histograms

__all__ = ["P_VALUES", "SKIPPED", "EngineMetrics"]

ACTIONS = ("allow", "flag", "abstain", "reject")
"""The names of :class:`guards.types.Action`, in the order of its numbers; a test checks that they agree."""
ABSTAIN = ACTIONS.index("abstain")
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
P_VALUES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SKIPPED = ("excluded", "principal", "share", "flagged")
"""Why a monitor does not count a row: an admin excluded the row's principal, the monitor does not trust the principal,
the principal has had its share, or a guard flagged the row and the monitor counts clean rows."""
STORED = ("stored", "repeated", "dropped")
EXPLAIN_RESULTS = ("ok", "cached", "refused", "timeout", "crashed", "error")


class EngineMetrics(SeatCounts):
    """The counters of the engine. Only the device's thread counts rows and batches."""

    what = "engine"

    def __init__(
        self,
        guards: Sequence[str],
        methods: Sequence[str],
        seat: Seat | None = None,
        *,
        monitors: Sequence[str] = (),
        on_purpose: Sequence[int] = (),
    ) -> None:
        """Count in the engine's seat, or, without a board, in this process's own memory.

        Args:
            guards: the names of all guards, in the order of an answer's columns.
            methods: the names of the explanation methods that the config allows.
            seat: the engine's seat.
            monitors: the names of all monitors.
            on_purpose: the places of the guards that abstain on purpose: they have a `target_error`.

        Raises:
            MemoryError: the seat has no room for so many series.
        """
        seat = Seat.of_no_board() if seat is None else seat
        super().__init__(seat)
        take, names = seat.take, [(guard,) for guard in guards]
        self.guards = tuple(guards)
        self._last_batch, self.busy = take(1), take(1)
        self.explanations = Counters(
            "explanations", "Explanations asked for.", ["method", "result"], list(product(methods, EXPLAIN_RESULTS)),
            take=take, locked=True,
        )  # fmt: skip
        self.query_store_errors = Counters(
            "query_store_errors", "Reads and writes of queries of guards with memory that Redis did not answer.",
            [], [()], take=take,
        )  # fmt: skip
        self.redis_errors = Counters(
            "redis_errors", "Questions that Redis did not answer, and this replica answered alone.", [], [()],
            take=take, locked=True,
        )  # fmt: skip
        self.stages = stage_histograms(seat)
        self.explain_duration = Histograms(
            "explain_duration_seconds", "Time to explain a request.", SECONDS, ["method"], [(m,) for m in methods],
            take=take,
        )  # fmt: skip
        self.rows = Counters(
            "rows", "Rows answered, by what was done to them.", ["action"], [(action,) for action in ACTIONS], take=take
        )
        self._on_purpose = list(on_purpose)
        self.on_purpose = Counters(
            "rows_abstained_on_purpose", "Rows that only guards with a target_error kept from an answer.", [], [()],
            take=take,
        )  # fmt: skip
        self.guard_rows = Counters("guard_rows", "Rows that a guard judged.", ["guard"], names, take=take)
        self.guard_flags = Counters("guard_flags", "Rows that a guard flagged.", ["guard"], names, take=take)
        self.guard_errors = Counters("guard_errors", "Rows on which a guard crashed.", ["guard"], names, take=take)
        self.guard_skipped = Counters(
            "guard_skipped", "Rows answered without an optional guard, because too many rows waited.", ["guard"], names,
            take=take,
        )  # fmt: skip
        self.violations = Counters(
            "guard_violations", "Rows that break a declared bound, which flags whatever the budget.", ["guard"], names,
            take=take,
        )  # fmt: skip
        self.skipped = Counters(
            "monitor_skipped_rows", "Answered rows that a monitor did not count.", ["monitor", "reason"],
            list(product(monitors, SKIPPED)), take=take,
        )  # fmt: skip
        self.stored = Counters(
            "store_rows", "Answered rows: stored, not stored as their id was there already, or dropped.", ["result"],
            [(result,) for result in STORED], take=take, locked=True,
        )  # fmt: skip
        self.store_deleted = Counters(
            "store_deleted_rows", "Rows deleted from the store, for their age or for its size.", ["reason"],
            [("age",), ("size",)], take=take,
        )  # fmt: skip
        self.feedback = Counters(
            "feedback", "Outcomes received.", ["result"], [(result,) for result in RESULTS], take=take, locked=True
        )
        self.files_lost = Counters(
            "store_files_lost", "How often the SQLite file was found deleted or replaced, and begun anew.", [], [()],
            take=take,
        )  # fmt: skip
        self.p_value = Histograms(
            "guard_p_value", "P-values of a guard; flat on clean rows.", P_VALUES, ["guard"], names, take=take
        )
        self.batch_rows = Histograms("batch_rows", "Rows in a batch.", BATCH_ROWS, take=take)
        self._begin()
        self._files_lost_before = self.files_lost.total()

    @property
    def last_batch(self) -> float:
        """When the last batch was answered, in seconds since the epoch; 0 before the first."""
        return float(self._last_batch[0])

    @property
    def busy_seconds(self) -> float:
        """How long the device has worked on batches, in seconds."""
        return float(self.busy[0])

    def query_lost(self) -> None:
        """Count a question about remembered queries that Redis did not answer."""
        self.query_store_errors.add()

    def count_skipped(self, monitor: str, reason: str, rows: int) -> None:
        """Count rows that a monitor did not count."""
        self.skipped.add(monitor, reason, by=rows)

    def skipped_by(self, monitor: str) -> dict[str, int]:
        """Give how many rows a monitor did not count, by reason."""
        return {reason: int(self.skipped.total(monitor, reason)) for reason in SKIPPED}

    def count_deleted(self, reason: str, rows: int) -> None:
        """Count rows that were deleted from the store for their ``age`` or for its ``size``."""
        self.store_deleted.add(reason, by=rows)

    def set_files_lost(self, times: int) -> None:
        """Set how often this process has found the store's file lost; the count of earlier processes is added."""
        self.files_lost.values[0] = self._files_lost_before + times

    def judged(self, joined: Joined) -> None:
        """Count outcomes by what became of them; unknown outcomes are counted elsewhere, after a second look."""
        for result in ("accepted", "duplicate", "conflicting", "replaced"):
            self.feedback.add(result, by=len(getattr(joined, result)))

    def ran(self, rows: int, seconds: float, ended_at: float) -> None:
        """Count one batch of the device, which took so many seconds, and ended at a time in seconds since the epoch."""
        self.busy[0] += seconds
        self._last_batch[0] = ended_at
        self.batch_rows.observe(rows)

    def observe(self, answer: Answer) -> None:
        """Count rows that were answered."""
        self.rows.values += np.bincount(answer.action, minlength=len(ACTIONS))
        if self._on_purpose:
            others = np.delete(answer.flagged, self._on_purpose, axis=1).any(1)
            alone = answer.flagged[:, self._on_purpose].any(1) & ~others & (answer.action == ABSTAIN)
            self.on_purpose.add(by=int(alone.sum()))
        crashed = np.isnan(answer.p_value)
        errors, p_value = crashed.sum(0), answer.p_value
        left_out = p_value == LEFT_OUT
        if left_out.any():
            self.guard_skipped.values += left_out.sum(0)
            p_value = np.where(left_out, np.nan, p_value)
        self.guard_errors.values += errors
        self.guard_rows.values += len(answer) - np.isnan(p_value).sum(0)
        self.guard_flags.values += answer.flagged.sum(0)
        if answer.violated is not None:
            self.violations.values += answer.violated.sum(0)
        self.p_value.observe_columns(p_value)
