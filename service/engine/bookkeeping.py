"""What happens to rows after their answers were sent: they are stored, counted, and observed by the monitors."""

from collections.abc import Sequence

from guards.actions import Action
from guards.types import Batch, Result
from service.engine.executor import DEVICE_STAGES, About
from service.engine.job import Computed, Lesson
from service.engine.ledger import Ledger
from service.engine.lot import Lot, Seen
from service.messages.answer import Answer
from service.monitoring.live_monitors import Monitoring
from service.monitoring.teaching import Teaching
from service.telemetry.metrics.engine import EngineMetrics

__all__ = ["Bookkeeping"]


class Bookkeeping:
    """Implements :class:`service.engine.pending_lessons.Books`; the device's thread uses it.

    Lessons of several batches are joined first, because the cost of a lesson hardly depends on its number of rows.
    """

    def __init__(
        self,
        ledger: Ledger,
        monitoring: Monitoring,
        metrics: EngineMetrics,
        teaching: Teaching,
        *,
        smallest_count: int = 1,
    ) -> None:
        """Store each row at once; count and observe at least ``smallest_count`` rows together."""
        self._ledger, self._monitoring, self._metrics = ledger, monitoring, metrics
        self._teaching = teaching
        self._lot = Lot(smallest_count)

    def expect(self, lessons: int) -> None:
        """Note that the answers of ``lessons`` lessons are about to be sent; :meth:`keep` receives them later."""
        self._ledger.expect(lessons)

    def keep(self, lessons: Sequence[Lesson]) -> None:
        """Count and store the rows of lessons."""
        ids = [name for computed, start, stop in lessons for name in computed.ids[start:stop]]
        answered_at = lessons[0].computed.about.answered_at
        try:
            answer = Answer.join([_answer(lesson) for lesson in lessons])
            batch = Batch.join([_batch(lesson) for lesson in lessons])
            result = Result.join([_result(lesson) for lesson in lessons])
            flagged = answer.flagged.any(1) | (answer.action > Action.ALLOW)
            by_rule, at_all = self._teaching.sort(ids, flagged)
        except BaseException:
            self._ledger.forget(len(lessons))  # otherwise feedback would wait for these lessons
            raise
        self._ledger.note(ids, answered_at, batch, answer, by_rule, lessons=len(lessons))
        self._show(self._lot.add(Seen(answer, batch, result, at_all)))

    def close(self) -> None:
        """Show the last rows to the monitors, whose state is about to be saved."""
        self._show(self._lot.rest())

    def _show(self, seen: Seen | None) -> None:
        if seen is not None:
            self._metrics.observe(seen.answer)
            self._monitoring.observe(seen.batch, seen.result, seen.without)

    def ran(self, computed: Computed) -> None:
        """Count one batch of the device, also if nobody waits for its rows any more."""
        about: About = computed.about
        seconds = about.laps.seconds()
        for stage, spent in zip(DEVICE_STAGES, seconds[1:], strict=False):
            self._metrics.stages.observe(spent, stage)
        self._metrics.ran(len(computed.answer), sum(seconds), about.answered_at)


# A lesson is usually a whole batch. Then the functions below return the whole object and cut nothing.


def _answer(lesson: Lesson) -> Answer:
    computed, start, stop = lesson
    return computed.answer if stop - start == len(computed.ids) else computed.answer.rows(start, stop)


def _batch(lesson: Lesson) -> Batch:
    computed, start, stop = lesson
    batch: Batch = computed.about.batch
    return batch if stop - start == len(computed.ids) else batch[start:stop]


def _result(lesson: Lesson) -> Result:
    computed, start, stop = lesson
    result: Result = computed.about.result
    return result if stop - start == len(computed.ids) else result[start:stop]
