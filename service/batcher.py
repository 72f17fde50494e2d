"""The micro-batcher: whatever waits when the device is free goes next, bounded in rows, fair between requests."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from service.answer import Answer
from service.exchange import Stage
from service.protocols.problem import unavailable
from service.turns import TURNS

__all__ = ["Computation", "MicroBatcher", "ModelFaultError"]

Array = npt.NDArray[Any]
SMOOTHING = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Computation:
    """One batch's answer, and what is left to do once the requests in it have theirs.

    ``afterwards`` counts the batch. ``learn`` takes note of some of its rows, from a start to a stop; ``expect`` is
    called before the answers of these rows leave. Rows of a request that was given up are not learnt.
    """

    answer: Answer
    afterwards: Callable[[], None]
    learn: Callable[[int, int], None]
    expect: Callable[[], None]
    stages: Callable[[], Sequence[Stage]] = tuple
    """When its stages were; asked only where a request wants to know."""


Compute = Callable[[Array, Mapping[str, Array], Sequence[str], bool], Computation]
"""Rows, level codes by attribute, the rows' ids, and whether any request wants to know causes."""


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one request; ``cursor`` says how many went into a batch already."""

    x: Array
    groups: Mapping[str, Array]
    ids: Sequence[str]
    deadline: float
    future: "asyncio.Future[Answer]"
    stages: list[Stage] | None = None
    """Filled with the stages of every batch that it rides in; None where nobody asks."""
    queued_at: float = field(default_factory=time.perf_counter)
    causes: bool = False
    cursor: int = 0
    parts: list["Part"] = field(default_factory=list)
    abandoned: bool = False
    """Whether nobody waits for the answer any more: the client left, the deadline passed, or a piece failed."""

    @property
    def remaining(self) -> int:
        return len(self.x) - self.cursor


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The part of a job that rides in one batch."""

    job: Job
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The rows of a computed batch, from ``start`` to ``stop``, that answer a piece of a job."""

    computed: Computation
    start: int
    stop: int

    @property
    def answer(self) -> Answer:
        return self.computed.answer.rows(self.start, self.stop)


Done = tuple[Job, Answer | Exception]


class MicroBatcher:
    """Feeds one worker thread. Rows wait only while the device is busy; a long request takes turns with the others."""

    def __init__(
        self,
        compute: Compute,
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        on_wait: Callable[[float], None],
        on_fault: Callable[[Exception], None],
        groups: Sequence[str] = (),
    ) -> None:
        """Run batches by ``compute``; ``on_wait`` is told every request's time in the queue, ``on_fault`` a crash.

        Every job brings level codes of all ``groups``.
        """
        self._names = tuple(groups)
        self._compute, self._on_wait, self._on_fault = compute, on_wait, on_fault
        self.max_batch_rows, self.max_queue_rows = max_batch_rows, max_queue_rows
        self._queue: deque[Job] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self._batch_seconds = 0.0
        self.queued_rows = 0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    async def submit(
        self,
        x: Array,
        groups: Mapping[str, Array],
        *,
        ids: Sequence[str],
        deadline: float,
        causes: bool = False,
        stages: list[Stage] | None = None,
    ) -> Answer:
        """Wait for the answer to rows (n, ...), one id each; ``deadline``, by the loop's clock, the caller enforces.

        What ``stages`` they went through, and when, is added where the caller has a list for it.

        Raises:
            Problem: 503, the queue is full or the deadline cannot be met.
            ModelFaultError: the model raised.
        """
        now = self._loop.time()
        job = Job(x, groups, ids, deadline, self._loop.create_future(), stages, causes=causes)
        with self._ready:
            if self._closed:
                raise unavailable("the server is shutting down", reason="draining")
            self.check_room(len(x))
            wait = self._wait(self.queued_rows + len(x))
            if now + wait > deadline and self.queued_rows:
                raise unavailable("the deadline cannot be met", reason="deadline", retry_after=wait)
            self.queued_rows += len(x)
            self._queue.append(job)
            self._ready.notify()
        try:
            answer = await job.future
        except BaseException:
            self._withdraw(job)
            raise
        TURNS.give_way()
        return answer

    def _withdraw(self, job: Job) -> None:
        """Take a job that nobody waits for out of the queue, so that its rows take nobody's place."""
        with self._ready:
            job.abandoned = True
            if job in self._queue:
                self._queue.remove(job)
                self.queued_rows -= job.remaining

    def check_room(self, rows: int = 1) -> None:
        """Refuse rows that the queue has no room for.

        Raises:
            Problem: 503, the queue is full.
        """
        if self.queued_rows + rows > self.max_queue_rows:
            raise unavailable("the queue is full", reason="queue_full", retry_after=self._wait(self.queued_rows))

    def _wait(self, rows: int) -> float:
        """Guess how long so many rows take, from how long batches took of late."""
        return -(-rows // self.max_batch_rows) * self._batch_seconds

    async def close(self) -> None:
        """Finish what is queued, and stop."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while pieces := self._take():
            with TURNS.taken():
                self._answer(pieces)

    def _answer(self, pieces: Sequence[Piece]) -> None:
        started = time.perf_counter()
        finished, failed, computed = self._run(pieces)
        self._batch_seconds += SMOOTHING * (time.perf_counter() - started - self._batch_seconds)
        wanted = [job for job in finished if not job.abandoned]
        lessons = _merged([part for job in wanted for part in job.parts])
        for lesson in lessons:
            lesson.computed.expect()
        done: list[Done] = [(job, Answer.join([part.answer for part in job.parts])) for job in wanted]
        with contextlib.suppress(RuntimeError):  # the loop is gone when the process is
            self._loop.call_soon_threadsafe(_deliver, [*done, *failed])
        for lesson in lessons:
            self._keep(partial(lesson.computed.learn, lesson.start, lesson.stop))
        for computation in computed:
            self._keep(computation.afterwards)

    def _keep(self, books: Callable[[], None]) -> None:
        try:
            books()
        except Exception as fault:  # noqa: BLE001 - it must not stop the worker
            self._on_fault(fault)

    def _take(self) -> list[Piece]:
        """Wait for rows, and take a batch of them; nothing once closed and empty."""
        with self._ready:
            while True:
                while not self._queue:
                    if self._closed:
                        return []
                    self._ready.wait()
                if pieces := self._fill():
                    return pieces

    def _fill(self) -> list[Piece]:
        pieces: list[Piece] = []
        unfinished: list[Job] = []
        space, now = self.max_batch_rows, self._loop.time()
        while space and self._queue:
            job = self._queue.popleft()
            if job.abandoned or job.deadline <= now:  # its caller has been told, or is being told
                self.queued_rows -= job.remaining
                continue
            if not job.cursor:
                taken = time.perf_counter()  # the loop's clock may stand still while it works
                self._on_wait(taken - job.queued_at)
                if job.stages is not None:
                    job.stages.append(Stage("queue", job.queued_at, taken))
            rows = min(space, job.remaining)
            pieces.append(Piece(job, job.cursor, job.cursor + rows))
            job.cursor += rows
            space -= rows
            self.queued_rows -= rows
            if job.remaining:
                unfinished.append(job)
        self._queue.extend(unfinished)  # behind the others: a long request waits its turn
        return pieces

    def _run(self, pieces: Sequence[Piece]) -> tuple[list[Job], list[Done], list[Computation]]:
        """Compute a batch; if it fails, compute each request's rows alone, so that only the culprit fails.

        Give the jobs that are finished, those that failed, and what was computed.
        """
        groups = {name: np.concatenate([p.job.groups[name][p.start : p.stop] for p in pieces]) for name in self._names}
        try:
            x = np.concatenate([p.job.x[p.start : p.stop] for p in pieces])
            ids = [name for p in pieces for name in p.job.ids[p.start : p.stop]]
            computed = self._compute(x, groups, ids, any(p.job.causes for p in pieces))
        except Exception as fault:  # noqa: BLE001 - the user's model may raise anything
            if len(pieces) == 1:
                self._on_fault(fault)
                pieces[0].job.abandoned = True
                return [], [(pieces[0].job, fault)], []
            alone = [self._run([piece]) for piece in pieces]
            finished, failed, each = (list(chain.from_iterable(several)) for several in zip(*alone, strict=True))
            return finished, failed, each
        if wanted := [piece.job.stages for piece in pieces if piece.job.stages is not None]:
            stages = computed.stages()
            for those in wanted:
                those.extend(stages)
        start = 0
        for piece in pieces:
            stop = start + piece.stop - piece.start
            piece.job.parts.append(Part(computed, start, stop))
            start = stop
        return [piece.job for piece in pieces if piece.stop == len(piece.job.x)], [], [computed]


def _merged(parts: Sequence[Part]) -> list[Part]:
    """Join parts that follow one another in the same batch: mostly that is all of it."""
    merged: list[Part] = []
    for part in parts:
        if merged and merged[-1].computed is part.computed and merged[-1].stop == part.start:
            merged[-1] = Part(part.computed, merged[-1].start, part.stop)
        else:
            merged.append(part)
    return merged


def _deliver(done: Sequence[Done]) -> None:
    for job, answer in done:
        if job.future.done():
            continue
        if isinstance(answer, Answer):
            job.future.set_result(answer)
        else:
            fault = ModelFaultError("the model failed on these rows")
            fault.__cause__ = answer
            job.future.set_exception(fault)


class ModelFaultError(Exception):
    """The model raised; its cause says what."""
