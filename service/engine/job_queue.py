"""The jobs that wait for the device, and the jobs in the batch that the device computes."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain

from service.engine.job import Job, Piece, Source
from service.engine.sources import Sources
from service.messages.short_requests import is_short
from service.messages.stage import Stage

__all__ = ["JobQueue"]


class JobQueue:
    """Gives the rows of the next batch, and drops jobs that nobody waits for; used by the device's thread alone.

    Short jobs take up to half of a batch before long jobs do, so they wait for the batch that is being computed and for
    other short jobs only. A job that is longer than a batch takes turns with the other long jobs.
    """

    def __init__(self, sources: Sources, on_wait: Callable[[float], None]) -> None:
        """Hear of jobs from ``sources``; ``on_wait`` is called with every job's seconds in the queue."""
        self._sources, self._on_wait = sources, on_wait
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._running: Sequence[Job] = ()

    def __bool__(self) -> bool:
        """Say whether any rows wait."""
        return bool(self._short or self._long)

    @property
    def rows(self) -> int:
        """How many rows wait."""
        return sum(job.remaining for job in self._waiting)

    @property
    def _waiting(self) -> Iterator[Job]:
        return chain(self._short, self._long)

    def add(self, jobs: Iterable[Job], batch_rows: int) -> None:
        """Add jobs at the end; a batch has at most ``batch_rows`` rows."""
        for job in jobs:
            (self._short if is_short(len(job.ids), batch_rows) else self._long).append(job)

    def run(self, jobs: Sequence[Job]) -> None:
        """Note the jobs with rows in the batch that is being computed; none once the batch has ended."""
        self._running = jobs

    def take(self, space: int) -> list[Piece]:
        """Take at most ``space`` rows, for the next batch. A job whose deadline has passed is dropped."""
        pieces: list[Piece] = []
        if self._long:
            space -= self._take(self._short, space // 2, pieces)
            space -= self._take(self._long, space, pieces)
        self._take(self._short, space, pieces)
        return pieces

    def _take(self, jobs: deque[Job], space: int, pieces: list[Piece]) -> int:
        """Add pieces of ``jobs`` with at most ``space`` rows; return how many rows they have."""
        unfinished: list[Job] = []
        now, left = time.perf_counter(), space
        while left and jobs:
            job = jobs.popleft()
            if job.deadline <= now:  # the front has already told the caller that the deadline passed
                self._drop(job)
                continue
            if not job.cursor:
                self._on_wait(now - job.submitted)
                if job.stages is not None:
                    job.stages.append(Stage("queue", job.submitted, now))
            rows = min(left, job.remaining)
            pieces.append(Piece(job, job.cursor, job.cursor + rows))
            job.cursor += rows
            left -= rows
            job.source.left_queue(rows)
            if job.remaining:
                unfinished.append(job)
        if jobs is self._short:
            jobs.extendleft(unfinished)
        else:
            jobs.extend(unfinished)  # at the end, so that long jobs take turns
        return space - left

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
                self._remove(job)
            job.over = True
            source.drop(job)
            self._sources.notify(source)

    def forget(self, source: Source) -> None:
        """Forget the jobs of a front that has closed its connection: nobody gets their answers."""
        for job in (*self._waiting, *self._running):
            job.over |= job.source is source
        self._short, self._long = (deque(job for job in jobs if not job.over) for jobs in (self._short, self._long))

    def fail(self, job: Job, fault: BaseException) -> None:
        """Fail a whole job, including the rows that were computed and the rows that still wait."""
        job.over = True
        if job.remaining:
            self._remove(job)
            job.source.left_queue(job.remaining)
            job.cursor = len(job.ids)
        job.source.fail(job, type(fault).__name__)
        self._sources.notify(job.source)

    def _remove(self, job: Job) -> None:
        for jobs in (self._short, self._long):
            with suppress(ValueError):
                jobs.remove(job)

    def _drop(self, job: Job) -> None:
        job.over = True
        job.source.left_queue(job.remaining)
        job.source.drop(job)
        self._sources.notify(job.source)
