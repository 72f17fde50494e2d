"""The jobs that wait for the device, and the jobs in the batch that the device computes."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from service.engine.job import Job, Piece, Source
from service.engine.sources import Sources
from service.messages.stage import Stage

__all__ = ["JobQueue"]


class JobQueue:
    """Gives the rows of the next batch, and drops jobs that nobody waits for; used by the device's thread alone.

    A job that is longer than a batch takes turns with the other jobs.
    """

    def __init__(self, sources: Sources, on_wait: Callable[[float], None]) -> None:
        """Hear of jobs from ``sources``; ``on_wait`` is called with every job's seconds in the queue."""
        self._sources, self._on_wait = sources, on_wait
        self._waiting: deque[Job] = deque()
        self._running: Sequence[Job] = ()

    def __bool__(self) -> bool:
        """Say whether any rows wait."""
        return bool(self._waiting)

    @property
    def rows(self) -> int:
        """How many rows wait."""
        return sum(job.remaining for job in self._waiting)

    def add(self, jobs: Iterable[Job]) -> None:
        """Add jobs at the end."""
        self._waiting.extend(jobs)

    def run(self, jobs: Sequence[Job]) -> None:
        """Note the jobs with rows in the batch that is being computed; none once the batch has ended."""
        self._running = jobs

    def take(self, space: int) -> list[Piece]:
        """Take at most ``space`` rows, for the next batch. A job whose deadline has passed is dropped."""
        pieces: list[Piece] = []
        unfinished: list[Job] = []
        now = time.perf_counter()
        while space and self._waiting:
            job = self._waiting.popleft()
            if job.deadline <= now:  # the front has already told the caller that the deadline passed
                self._drop(job)
                continue
            if not job.cursor:
                self._on_wait(now - job.submitted)
                if job.stages is not None:
                    job.stages.append(Stage("queue", job.submitted, now))
            rows = min(space, job.remaining)
            pieces.append(Piece(job, job.cursor, job.cursor + rows))
            job.cursor += rows
            space -= rows
            job.source.left_queue(rows)
            if job.remaining:
                unfinished.append(job)
        self._waiting.extend(unfinished)  # at the end of the queue, so that a long job does not delay the others
        return pieces

    def withdraw(self, source: Source, withdrawn: Mapping[int, int]) -> None:
        """Drop jobs that nobody waits for. The front has already subtracted their rows from the count of the queue."""
        known = {job.number: job for job in (*self._waiting, *self._running) if job.source is source and not job.over}
        for number, rows in withdrawn.items():
            job = known.get(number)
            if job is None:  # the job is finished, and its reply is on the way
                source.left_queue(-rows)
                continue
            source.left_queue(-job.cursor)
            if job.remaining:
                self._waiting.remove(job)
            job.over = True
            source.drop(job)
            self._sources.notify(source)

    def forget(self, source: Source) -> None:
        """Forget the jobs of a front that has closed its connection: nobody gets their answers."""
        for job in (*self._waiting, *self._running):
            job.over |= job.source is source
        self._waiting = deque(job for job in self._waiting if not job.over)

    def fail(self, job: Job, fault: BaseException) -> None:
        """Fail a whole job, including the rows that were computed and the rows that still wait."""
        job.over = True
        if job.remaining:
            self._waiting = deque(each for each in self._waiting if each is not job)
            job.source.left_queue(job.remaining)
            job.cursor = len(job.ids)
        job.source.fail(job, type(fault).__name__)
        self._sources.notify(job.source)

    def _drop(self, job: Job) -> None:
        job.over = True
        job.source.left_queue(job.remaining)
        job.source.drop(job)
        self._sources.notify(job.source)
