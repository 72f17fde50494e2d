"""Answered rows that counters and monitors have not seen yet: they see rows in lots, and no row alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from guards.types import Batch, Result
from service.messages.answer import Answer
from service.monitoring.teaching import Without

__all__ = ["Lot", "Seen"]


class Seen(NamedTuple):
    """Answered rows as counters and monitors see them."""

    answer: Answer
    batch: Batch
    result: Result
    without: Without
    """The rows that each monitor does not count."""


class Lot:
    """Keeps answered rows until there are at least ``least`` of them together."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._kept: list[Seen] = []

    def add(self, seen: Seen) -> Seen | None:
        """Add rows; return all kept rows together if they are enough."""
        self._kept.append(seen)
        return self.rest() if sum(len(each.answer) for each in self._kept) >= self._least else None

    def rest(self) -> Seen | None:
        """Return all kept rows together, and keep none any more; None if there are none."""
        kept, self._kept = self._kept, []
        if not kept:
            return None
        answers, batches, results, withouts = zip(*kept, strict=True)
        sizes = [len(answer) for answer in answers]
        return Seen(Answer.join(answers), Batch.join(batches), Result.join(results), _joined(withouts, sizes))


def _joined(withouts: Sequence[Without], sizes: Sequence[int]) -> Without:
    """Join the marks of every monitor; where a monitor has no marks, it counts every row."""
    names = {name for without in withouts for name in without}
    each = list(zip(withouts, sizes, strict=True))
    return {
        name: np.concatenate([without.get(name, np.zeros(size, np.bool_)) for without, size in each]) for name in names
    }
