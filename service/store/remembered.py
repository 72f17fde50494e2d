"""Stored rows as the store reads them back: joined with their outcomes, or as they were when they were answered."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from guards.actions import Action
from guards.monitors.answered_rows import UNANSWERED, Records
from service.messages.outcomes import Outcome
from service.store.prediction_sets import in_set
from service.store.rows import FLAGGED, STAINED

__all__ = ["Remembered"]

Array = npt.NDArray[Any]
NO_RESETS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Remembered:
    """One row of the table ``predictions``."""

    prediction: int
    edition: int
    label: str | None
    value: float | None
    confidence: float | None
    labels: str | None
    low: float | None
    high: float | None
    action: int
    groups: str | None
    flags: int | None = None
    skipped: str | None = None
    excluded: int = 0
    era: int = 0
    repeated: int = 0

    def covers(self, truth: Outcome, place: int | None = None) -> bool | None:
        """Return whether the prediction set or the interval held the true outcome; None if there was neither.

        ``place`` is the index of the true label among the labels.
        """
        if self.labels is not None:
            return in_set(self.labels, truth.label, place)
        if self.low is None or self.high is None or truth.value is None:
            return None
        return self.low <= truth.value <= self.high

    @staticmethod
    def joined(
        rows: Sequence["Remembered"],
        truths: Sequence[Outcome],
        classes: Sequence[str],
        resets: Mapping[str, int] = NO_RESETS,
    ) -> Records:
        """Join rows with their true outcomes; the predicted and the true labels are among ``classes``."""
        index = {label: place for place, label in enumerate(classes)}
        if classes:
            actual: Array = np.array([index[truth.label or ""] for truth in truths], dtype=np.int64)
        else:
            actual = np.array([_number(truth.value) for truth in truths])
        covered = [row.covers(truth, index.get(truth.label or "")) for row, truth in zip(rows, truths, strict=True)]
        return replace(
            Remembered.records(rows, classes, resets),
            actual=actual,
            covered=np.array([UNANSWERED if one is None else int(one) for one in covered], dtype=np.int64),
            weight=np.array([1 / (truth.probability or math.nan) for truth in truths]),
        )

    @staticmethod
    def records(rows: Sequence["Remembered"], classes: Sequence[str], resets: Mapping[str, int] = NO_RESETS) -> Records:
        """Give the records of rows, as they were when they were answered.

        ``resets`` has the number of the last reset of each monitor: a monitor that was reset after a row does not count
        the row.
        """
        index = {label: place for place, label in enumerate(classes)}
        if classes:
            predicted = np.array([UNANSWERED if r.label is None else index[r.label] for r in rows], dtype=np.int64)
        else:
            predicted = np.array([_number(r.value) for r in rows])
        action = np.array([row.action for row in rows], dtype=np.int64)
        flags = np.where(action > Action.ALLOW, FLAGGED | STAINED, 0)
        flags = np.array([flag if row.flags is None else row.flags for row, flag in zip(rows, flags, strict=True)])
        listed = {text: orjson.loads(text) for text in {row.skipped for row in rows} if text is not None}
        eras = np.array([row.era for row in rows], dtype=np.int64)
        skipped = {
            name: np.array([row.skipped is not None and name in listed[row.skipped] for row in rows], np.bool_)
            | (eras < resets.get(name, 0))
            for name in {*resets, *(name for names in listed.values() for name in names)}
        }
        known = {text: orjson.loads(text) for text in {row.groups for row in rows} if text is not None}
        codes = [known[row.groups] if row.groups is not None else {} for row in rows]
        return Records(
            predicted=predicted,
            action=action,
            confidence=np.array([_number(row.confidence) for row in rows]),
            groups={name: np.array([c[name] for c in codes], dtype=np.int64) for name in (codes[0] if codes else ())},
            flagged=(flags & FLAGGED).astype(np.bool_),
            spotless=~(flags & STAINED).astype(np.bool_),
            skipped=skipped,
        )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
