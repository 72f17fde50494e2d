"""Batches and rows that wait to be counted: when they have waited enough, and that each batch is counted once."""

from collections.abc import Sequence

import numpy as np
import pytest

from service.engine.job import Computed, Lesson
from service.engine.pending_lessons import MOST_BATCHES, MOST_ROWS, MOST_SECONDS, PendingLessons
from service.messages.answer import Answer


class Counted:
    """Books that note what they get, and crash when they are told to."""

    def __init__(self) -> None:
        self.kept: list[Lesson] = []
        self.batches: list[Computed] = []
        self.crash = False
        self.expected = 0

    def expect(self, lessons: int) -> None:
        self.expected += lessons

    def keep(self, lessons: Sequence[Lesson]) -> None:
        if self.crash:
            raise RuntimeError("a monitor")
        self.kept += lessons

    def ran(self, computed: Computed) -> None:
        self.batches.append(computed)


def computed(rows: int = 1) -> Computed:
    none = np.zeros((rows, 0))
    action = np.zeros(rows, dtype=np.int64)
    answer = Answer(action, none, none.astype(bool), None, {}, None, None, None, np.zeros(rows), None)
    return Computed(answer, ["r"] * rows, None, tuple)


def lesson(batch: Computed) -> Lesson:
    return Lesson(batch, 0, len(batch.ids))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock whose only entry is the time."""
    now = [1000.0]
    monkeypatch.setattr("service.engine.pending_lessons.time.monotonic", lambda: now[0])
    return now


def test_nothing_waits_for_long(clock: list[float]) -> None:
    """The oldest batch says how long a batch has waited, however many came after it."""
    pending = PendingLessons(Counted(), lambda _: None)
    for _ in range(3):
        pending.add([batch := computed()], [lesson(batch)])
        assert pending
        assert not pending.full
        clock[0] += MOST_SECONDS / 3
    assert pending.full
    pending.keep()
    assert not pending
    assert not pending.full
    pending.add([batch := computed()], [lesson(batch)])
    assert not pending.full


def test_few_batches_and_few_rows_wait(clock: list[float]) -> None:
    """Nothing more should wait after so many batches, with or without callers, or after so many rows."""
    assert clock
    for rows, times, callers in ((1, MOST_BATCHES, True), (1, MOST_BATCHES, False), (MOST_ROWS // 4, 4, True)):
        pending = PendingLessons(Counted(), lambda _: None)
        for time in range(times):
            assert not pending.full, time
            batch = computed(rows)
            pending.add([batch], [lesson(batch)] if callers else [])
        assert pending.full


def test_every_batch_is_counted_once() -> None:
    """A batch counts if nobody waits for its rows any more, and if the books of its rows crash."""
    books, faults = Counted(), list[BaseException]()
    pending = PendingLessons(books, faults.append)
    first, second, third = computed(), computed(), computed()
    pending.add([first], [lesson(first)])
    pending.add([second], [])
    pending.keep()
    books.crash = True
    pending.add([third], [lesson(third)])
    pending.keep()
    pending.keep()
    assert books.batches == [first, second, third]
    assert [each.computed for each in books.kept] == [first]
    assert [type(fault) for fault in faults] == [RuntimeError]


def test_only_answered_rows_are_waited_for() -> None:
    """Nobody waits for rows that are counted already, or that are not answered yet; a crash leaves nobody waiting."""
    books = Counted()
    pending = PendingLessons(books, lambda _: None)
    rings: list[int] = []

    def settle() -> bool:
        return pending.settle(lambda: rings.append(1), lambda: True, 0.01)

    assert settle()
    for crash in (False, True):
        books.crash = crash
        pending.expect(1)
        assert not settle()
        pending.add([batch := computed()], [lesson(batch)])
        assert not settle()
        pending.keep()
        assert settle()
    pending.add([computed()], [])
    assert settle()
    assert (len(rings), books.expected) == (4, 2)
