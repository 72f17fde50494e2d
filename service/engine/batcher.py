"""The micro-batcher: when the device is free, the rows that wait form the next batch, up to a limit of rows."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from service.engine.job import Computed, Lesson, Piece, Source
from service.engine.job_queue import JobQueue
from service.engine.pending_lessons import Books, PendingLessons
from service.engine.sources import Sources
from service.messages.board import Board

__all__ = ["Batcher", "Compute"]

LOG = logging.getLogger("guardhouse")
Array = npt.NDArray[Any]
SMOOTHING = 0.2
QUIET_SECONDS = 0.003
"""If no request arrives for this long, the answered rows that wait are counted and stored."""
LONG_SECONDS = 0.005
"""If a batch took longer, the batcher looks for callers that have left before it counts the rows."""
THREAD_LOST = 71
"""The exit status of an engine whose device thread ended by a fault of ours."""
Compute = Callable[[Array, Mapping[str, Array], Sequence[str], bool, bool, Sequence[str]], Computed]
"""Computes one batch from rows, level codes by attribute, the rows' ids, whether any request asked for causes, whether
so many rows wait that optional guards are left out, and the rows' clients."""


class Batcher:
    """One thread that reads requests from the fronts' sockets, computes batches, and writes the answers.

    The thread reads new requests between two batches, so that no request waits for a lock or for another thread.
    Answered rows are counted and stored when no request waits, many batches at once.
    """

    def __init__(  # noqa: PLR0913 - what the batches of a server need
        self,
        compute: Compute,
        books: Books,
        board: Board,
        *,
        max_batch_rows: int,
        attributes: Sequence[str],
        on_wait: Callable[[float], None],
        on_fault: Callable[[BaseException], None],
        remember: Callable[[Lesson], None] = lambda _: None,
    ) -> None:
        """Run batches by ``compute`` once started.

        Args:
            compute: computes one batch. If it raises an exception, each request is computed alone, so that only the
                request that causes the exception fails.
            books: counts and stores the answered rows.
            board: where the fronts see how long the queue is.
            max_batch_rows: the most rows of one batch.
            attributes: the attributes of which every job has level codes.
            on_wait: called with every request's seconds in the queue.
            on_fault: called with every exception of the model or of ``books``.
            remember: called with rows whose answers were just sent, before the next batch is computed.
        """
        self._compute, self._books, self._board = compute, books, board
        self.max_batch_rows, self._attributes = max_batch_rows, tuple(attributes)
        self._on_fault, self._remember = on_fault, remember
        self._pending = PendingLessons(books, on_fault)
        self._sources = Sources()
        self._queue = JobQueue(self._sources, on_wait)
        self._closing = False
        self._thread = threading.Thread(target=self._run_or_leave, name="device", daemon=True)
        board.batch_rows = max_batch_rows

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, source: Source) -> None:
        """Take requests from a front from now on; called from any thread."""
        self._sources.add(source)

    def settle(self, seconds: float) -> bool:
        """Wait until every answered row is counted and stored; return whether that was done within ``seconds``."""
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return True
        return self._pending.settle(self._sources.ring, self._thread.is_alive, seconds)

    def close(self) -> None:
        """Answer the requests that wait, then stop the thread."""
        self._closing = True
        self._sources.ring()
        self._thread.join()

    # The thread

    def _run_or_leave(self) -> None:
        """Do the thread's work. If an error in our own code ends the thread, end the process: it cannot answer."""
        try:
            self._work()
        except BaseException as fault:
            LOG.critical("the device's thread ended: the engine exits, to be started again", exc_info=fault)
            os._exit(THREAD_LOST)

    def _work(self) -> None:
        while True:
            quiet = not self._read(self._seconds_to_wait())
            if pieces := self._queue.take(self.max_batch_rows):
                self._answer(pieces)
            self._sources.flush()
            leaving = self._closing and not self._queue and not self._read(0)
            if quiet or leaving or self._pending.awaited or self._pending.full:
                self._pending.keep()
            if leaving:
                self._sources.close()
                return

    def _seconds_to_wait(self) -> float | None:
        """Return how many seconds to wait for a request; None waits without a limit."""
        if self._queue or self._closing or self._pending.awaited:
            return 0.0
        return QUIET_SECONDS if self._pending else None

    def _read(self, seconds: float | None) -> bool:
        """Read what the fronts have sent, each in turn; say whether anything happened, or rows wait."""
        happened, readable = self._sources.wait(seconds)
        for source in readable:
            self._receive(source)
        return happened or bool(self._queue)

    def _receive(self, source: Source) -> None:
        try:
            jobs, withdrawn = source.receive()
        except OSError:
            self._queue.forget(source)
            self._sources.forget(source)
            return
        self._queue.add(jobs, self.max_batch_rows)
        if withdrawn:
            self._queue.withdraw(source, withdrawn)

    def _answer(self, pieces: Sequence[Piece]) -> None:
        started = time.perf_counter()
        self._queue.run([piece.job for piece in pieces])
        computed = self._run(pieces)
        took = time.perf_counter() - started
        if took > LONG_SECONDS:
            self._read(0)  # some callers may have left meanwhile, and rows that nobody receives are not counted
        self._queue.run(())
        self._board.batch_seconds += SMOOTHING * (took - self._board.batch_seconds)
        finished = [piece.job for piece in pieces if not piece.job.over and piece.job.cursor == len(piece.job.ids)]
        lessons = _merged(chain.from_iterable(job.parts for job in finished))
        self._pending.expect(len(lessons))
        for job in finished:
            job.over = True
            job.source.finish(job)
            self._sources.notify(job.source)
        self._sources.flush()  # before anything else is done
        for lesson in lessons:
            self._remember(lesson)
        self._pending.add(computed, lessons)

    def _run(self, pieces: Sequence[Piece]) -> list[Computed]:
        """Compute a batch and write its answer. If that fails, compute each request alone, so that only one fails."""
        try:
            x = np.concatenate([job.x[start:stop] for job, start, stop in pieces])
            groups = {
                name: np.concatenate([job.groups[name][start:stop] for job, start, stop in pieces])
                for name in self._attributes
            }
            ids = [name for job, start, stop in pieces for name in job.ids[start:stop]]
            hurried = self._queue.rows > self.max_batch_rows
            clients = [job.client for job, start, stop in pieces for _ in range(start, stop)]
            computed = self._compute(x, groups, ids, any(job.causes for job, _, _ in pieces), hurried, clients)
        except BaseException as fault:  # noqa: BLE001 - the user's model may raise anything, SystemExit included
            if len(pieces) > 1:
                return list(chain.from_iterable(self._run([piece]) for piece in pieces))
            self._on_fault(fault)
            self._queue.fail(pieces[0].job, fault)
            return []
        self._write(pieces, computed)
        return [computed]

    def _write(self, pieces: Sequence[Piece], computed: Computed) -> None:
        """Write the answers of a batch into the slots, with one write for consecutive pieces of the same front."""
        if any(piece.job.stages is not None for piece in pieces):
            stages = computed.stages()
            for piece in pieces:
                if piece.job.stages is not None:
                    piece.job.stages += stages
        start = run = 0
        for place, piece in enumerate(pieces):
            stop = start + piece.stop - piece.start
            piece.job.parts.append(Lesson(computed, start, stop))
            start = stop
            if place + 1 == len(pieces) or pieces[place + 1].job.source is not piece.job.source:
                together = pieces[run : place + 1]
                rows = sum(each.stop - each.start for each in together)
                piece.job.source.write(together, computed.answer, stop - rows)
                run = place + 1


def _merged(parts: "chain[Lesson]") -> list[Lesson]:
    """Join lessons that follow one another in the same batch; usually they become one lesson of the whole batch."""
    merged: list[Lesson] = []
    for part in parts:
        if merged and merged[-1].computed is part.computed and merged[-1].stop == part.start:
            merged[-1] = Lesson(part.computed, merged[-1].start, part.stop)
        else:
            merged.append(part)
    return merged
