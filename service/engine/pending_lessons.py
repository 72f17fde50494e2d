"""Batches and answered rows that are not counted and stored yet: many are counted at once, when no request waits."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from service.engine.job import Computed, Lesson

__all__ = ["Books", "PendingLessons"]

MOST_BATCHES, MOST_ROWS, MOST_SECONDS = 16, 512, 0.25
"""How many batches and rows may wait, and for how long."""


class Books(Protocol):
    """Counts and stores rows whose answers have left."""

    def expect(self, lessons: int) -> None:
        """Know of lessons whose answers are about to leave, and that :meth:`keep` will get."""
        ...

    def keep(self, lessons: Sequence[Lesson]) -> None:
        """Count and store the rows of lessons."""
        ...

    def ran(self, computed: Computed) -> None:
        """Count one batch of the device, also if nobody waits for its rows any more."""
        ...


class PendingLessons:
    """Filled and emptied by the device's thread; any other thread may wait until nothing is pending."""

    def __init__(self, books: Books, on_fault: Callable[[BaseException], None]) -> None:
        """Empty into ``books``; ``on_fault`` is called with what they raise."""
        self._books, self._on_fault = books, on_fault
        self._lessons: list[Lesson] = []
        self._batches: list[Computed] = []
        self._oldest = 0.0
        """When the first of the batches ended, by ``time.monotonic``."""
        self._due = 0
        """How many lessons were expected and are not kept yet."""
        self._settled = self._asked = 0
        self._settling = threading.Condition()

    def __bool__(self) -> bool:
        """Say whether any batch is pending."""
        return bool(self._batches)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits until nothing is pending."""
        return self._asked != self._settled

    @property
    def full(self) -> bool:
        """Whether no more should wait."""
        if not self._batches:
            return False
        rows = sum(stop - start for _, start, stop in self._lessons)
        many = max(len(self._batches), len(self._lessons)) >= MOST_BATCHES or rows >= MOST_ROWS
        return many or time.monotonic() - self._oldest >= MOST_SECONDS

    def expect(self, lessons: int) -> None:
        """Know of lessons whose answers are about to leave; :meth:`add` gets them next."""
        self._due += lessons
        self._books.expect(lessons)

    def add(self, batches: Sequence[Computed], lessons: Sequence[Lesson]) -> None:
        """Add batches that were computed, and lessons whose answers have left."""
        if not self._batches:
            self._oldest = time.monotonic()
        self._batches += batches
        self._lessons += lessons

    def keep(self) -> None:
        """Count and store everything that is pending, and tell whoever waits."""
        asked = self._asked
        batches, self._batches = self._batches, []
        lessons, self._lessons = self._lessons, []
        if lessons:
            try:
                self._books.keep(lessons)
            except BaseException as fault:  # noqa: BLE001 - predictions go on
                self._on_fault(fault)
        for batch in batches:
            self._books.ran(batch)
        self._due -= len(lessons)
        if asked != self._settled:
            with self._settling:
                self._settled = asked
                self._settling.notify_all()

    def settle(self, ring: Callable[[], None], alive: Callable[[], bool], seconds: float) -> bool:
        """Wait until every row that has been answered is kept; say whether that took no longer.

        ``ring`` wakes the device's thread, ``alive`` says whether there is one. If every answered row is kept already,
        nobody waits, however long the device's thread computes.
        """
        if not self._due:
            return True
        with self._settling:
            self._asked += 1
            asked = self._asked
            ring()
            return self._settling.wait_for(lambda: self._settled >= asked or not alive(), seconds)
