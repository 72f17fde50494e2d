"""Answered rows in the forms that the store needs: as the device's thread leaves them, as columns, and as records."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import orjson

from guards.actions import Action
from guards.monitors.answered_rows import UNANSWERED, Records
from service.messages.answer import Answer
from service.messages.row_name import owner_of
from service.store.prediction_sets import write_set

__all__ = ["FLAGGED", "STAINED", "Answered", "Block"]

Array = npt.NDArray[Any]
FLAGGED, STAINED = 1, 2
"""The bits of ``flags``: a guard that shares the budget flagged the row; any guard flagged the row."""


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """The rows of one batch as the device's thread leaves them; no Python code runs for each row.

    ``sets`` (n, k / 8) are the prediction sets, with eight labels in a byte. Otherwise rows with thousands of labels
    that wait for a database would take much memory. ``skipped`` marks the rows (n,) that a monitor does not count, by
    the monitor's name.
    """

    ids: Sequence[str]
    time: float
    answer: Answer
    confidence: Array | None
    sets: Array | None
    groups: Mapping[str, Array]
    x: Array | None
    skipped: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        time: float,
        answer: Answer,
        groups: Mapping[str, Array],
        x: Array | None = None,
        skipped: Mapping[str, Array] | None = None,
    ) -> Self:
        """Take what will be stored of a batch; ``x`` is None if the input rows are not to be stored."""
        confidence = None if answer.probabilities is None else answer.probabilities.max(1)
        sets = None if answer.members is None else np.packbits(answer.members, axis=1)
        kept = replace(answer, probabilities=None, members=None, violated=None, causes={})
        return cls(ids, time, kept, confidence, sets, groups, x, skipped or {})

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.ids)


class Block:
    """The rows of some batches, to be written in one transaction.

    ``classes`` are the names of the labels, ``guards`` the names of the guards, in the order of the answers' columns.
    ``on_purpose`` are the places of the guards that abstain on purpose, whose flags are no false alarms.
    """

    def __init__(
        self,
        batches: Sequence[Answered],
        *,
        classes: Sequence[str],
        guards: Sequence[str],
        on_purpose: Sequence[int] = (),
    ) -> None:
        self.classes, self.guards = tuple(classes), tuple(guards)
        self.keys = [name for batch in batches for name in batch.ids]
        self.times = np.repeat([batch.time for batch in batches], [len(batch) for batch in batches])
        self.answer = Answer.join([batch.answer for batch in batches])
        self._packed = [batch.sets for batch in batches if batch.sets is not None]
        self._xs = [batch.x for batch in batches if batch.x is not None]
        answered = self.answer.action < Action.ABSTAIN
        nothing = np.full(len(self.keys), math.nan)
        confidence = nothing
        if batches[0].confidence is not None:
            confidence = np.concatenate([batch.confidence for batch in batches if batch.confidence is not None])
        if self.answer.label is not None:
            predicted = np.where(answered, self.answer.label, UNANSWERED)
        else:
            assert self.answer.value is not None  # noqa: S101 - an answer has labels or values
            predicted = np.where(answered, self.answer.value.astype(np.float64), math.nan)
        self.records = Records(
            predicted=predicted,
            action=self.answer.action,
            confidence=np.where(answered, confidence.astype(np.float64), math.nan),
            groups={name: np.concatenate([batch.groups[name] for batch in batches]) for name in batches[0].groups},
            flagged=np.logical_or.reduce(np.delete(self.answer.flagged, on_purpose, axis=1), axis=1),
            spotless=~np.logical_or.reduce(self.answer.flagged, axis=1),
            skipped={
                name: np.concatenate([batch.skipped.get(name, np.zeros(len(batch), np.bool_)) for batch in batches])
                for name in sorted({name for batch in batches for name in batch.skipped})
            },
        )

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.keys)

    @cached_property
    def firsts(self) -> list[int]:
        """The first row of each id, in the order of the keys, so that two writers cannot deadlock."""
        places = dict(zip(reversed(self.keys), range(len(self.keys) - 1, -1, -1), strict=True))
        return [places[key] for key in sorted(places)]

    def repeated(self, new: Collection[str]) -> list[tuple[str, float | None]]:
        """List the ids that were used before, each with the time of its later use, if ``new`` are the stored ids.

        Rows that are written once more after an error have the time of the stored rows. For an id that this block uses
        twice, the time is None.
        """
        seen: dict[str, int] = Counter(self.keys)
        times = zip(self.keys, self.times.tolist(), strict=True)
        again = {key: None if seen[key] > 1 else time for key, time in times if key not in new or seen[key] > 1}
        return sorted(again.items())

    def owned_by(self, principals: Collection[str]) -> npt.NDArray[np.bool_]:
        """Mark the rows (n,) of some principals."""
        if not principals:
            return np.zeros(len(self), np.bool_)
        return np.array([owner_of(key) in principals for key in self.keys], np.bool_)

    def predictions(self, excluded: npt.NDArray[np.bool_]) -> bytes:
        """Write the rows of ``predictions`` as JSON, in the order of :attr:`firsts`; ``excluded`` (n,) do not count."""
        records, n = self.records, len(self)
        blank: list[None] = [None] * n
        labels: Sequence[str | None] = blank
        values: Sequence[float | None] = blank
        if self.answer.label is not None:
            labels = [None if index == UNANSWERED else self.classes[index] for index in records.predicted.tolist()]
        else:
            values = records.predicted.tolist()
        interval = np.full((n, 2), math.nan) if self.answer.interval is None else self.answer.interval
        interval = np.where((records.action < Action.ABSTAIN)[:, None], interval, math.nan).astype(np.float64)
        inputs = blank if not self._xs else [orjson.dumps(x.ravel().tolist()).decode() for xs in self._xs for x in xs]
        assert records.flagged is not None  # noqa: S101 - the constructor sets both
        assert records.spotless is not None  # noqa: S101
        flags = FLAGGED * records.flagged + STAINED * ~records.spotless
        rows = list(
            zip(
                self.keys, self.times.tolist(), labels, values, records.confidence.tolist(), self._sets(),
                *interval.T.tolist(), records.action.tolist(), self._groups(), inputs,
                flags.tolist(), self._skipped(), excluded.astype(int).tolist(), strict=True,
            )
        )  # fmt: skip
        return orjson.dumps([rows[place] for place in self.firsts])

    def _sets(self) -> list[str | None]:
        if not self._packed:
            return [None] * len(self)
        known: dict[bytes, str] = {}
        sets: list[str | None] = []
        for packed, action in zip(chain.from_iterable(self._packed), self.answer.action.tolist(), strict=True):
            if action >= Action.ABSTAIN:
                sets.append(None)
                continue
            key = packed.tobytes()
            if key not in known:
                known[key] = write_set(key, self.classes)
            sets.append(known[key])
        return sets

    def _p_values(self, rows: list[int]) -> list[list[float | None]]:
        """Give the p-values of rows; None if a guard was left out or crashed."""
        return [[p if p >= 0 else None for p in ps] for ps in self.answer.p_value[rows].tolist()]

    def _skipped(self) -> list[str | None]:
        skipped = self.records.skipped
        if not skipped:
            return [None] * len(self)
        marked = zip(*(marks.tolist() for marks in skipped.values()), strict=True)
        listed = ([name for name, mark in zip(skipped, marks, strict=True) if mark] for marks in marked)
        return [orjson.dumps(names).decode() if names else None for names in listed]

    def _groups(self) -> list[str | None]:
        names = tuple(self.records.groups)
        if not names:
            return [None] * len(self)
        known: dict[tuple[int, ...], str] = {}
        rows = list(zip(*(codes.tolist() for codes in self.records.groups.values()), strict=True))
        for codes in set(rows):
            known[codes] = orjson.dumps(dict(zip(names, codes, strict=True))).decode()
        return [known[codes] for codes in rows]

    @cached_property
    def decisions(self) -> bytes | None:
        """The rows of ``decisions`` as JSON: the rows whose action is not `allow`. None if there are no such rows."""
        touched = np.flatnonzero(self.answer.action > Action.ALLOW).tolist()
        if not touched:
            return None
        touched.sort(key=lambda row: self.keys[row])
        flagged, p_values = self.answer.flagged[touched].tolist(), self._p_values(touched)
        rows = [
            (
                self.keys[row],
                self.times[row].item(),
                self.answer.action[row].item(),
                orjson.dumps([guard for guard, is_so in zip(self.guards, flags, strict=True) if is_so]).decode(),
                orjson.dumps(dict(zip(self.guards, ps, strict=True))).decode(),
            )
            for row, flags, ps in zip(touched, flagged, p_values, strict=True)
        ]
        return orjson.dumps(rows)
