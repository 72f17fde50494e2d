"""Made-up answers, and a tally of them that any test can do in its head."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from guards.records import Records
from guards.types import Action
from service.answer import Answer
from service.columns import Answered, Block
from service.database import Database, parse_url
from service.editions import Edition
from service.store import Store, Tallies

CLASSES = ("no", "yes")
GUARDS = ("ood", "quality")
EDITION = Edition("loans", "1", "sha256:0", {"confusion": "layout"}, CLASSES)
ABSTAIN = "none"


def answered(
    ids: Sequence[str], labels: Sequence[str] | None = None, *, time: float = 1000.0, **groups: Sequence[int]
) -> Answered:
    """Answer rows with labels, or abstain where that is `none`; every set holds the label alone."""
    labels = labels or ["yes"] * len(ids)
    index = np.array([CLASSES.index(label) if label != ABSTAIN else 0 for label in labels])
    action = np.array([Action.ABSTAIN if label == ABSTAIN else Action.ALLOW for label in labels])
    probabilities = np.where(np.eye(2, dtype=bool)[index], np.float32(0.75), np.float32(0.25))
    answer = Answer(
        action=action,
        p_value=np.full((len(ids), 2), 0.5, dtype=np.float32),
        flagged=np.stack([action > 0, action < 0], axis=1),
        violated=None,
        causes={},
        probabilities=probabilities,
        label=index,
        members=probabilities > 0.5,
        value=None,
        interval=None,
    )
    return Answered.of(list(ids), time, answer, {name: np.array(codes) for name, codes in groups.items()})


def regressed(ids: Sequence[str], values: Sequence[float], *, time: float = 1000.0) -> Answered:
    """Answer rows with values, and intervals of one to either side."""
    value = np.array(values, dtype=np.float32)
    n = len(ids)
    answer = Answer(
        action=np.zeros(n, dtype=np.int64),
        p_value=np.ones((n, 2)),
        flagged=np.zeros((n, 2), dtype=bool),
        violated=None,
        causes={},
        probabilities=None,
        label=None,
        members=None,
        value=value,
        interval=np.stack([value - 1, value + 1], axis=1),
    )
    return Answered.of(list(ids), time, answer, {})


def block(*batches: Answered, classes: Sequence[str] = CLASSES) -> Block:
    """Put batches together."""
    return Block(batches, classes=classes, guards=GUARDS)


def confusion(records: Records) -> Tallies:
    """Count (predicted or none) by (unknown or actual): place (2, 0) is a row without an answer or a label yet."""
    predicted = records.predicted % 3  # UNANSWERED is -1
    actual = np.zeros_like(predicted) if records.actual is None else records.actual + 1
    return {"confusion": np.bincount(predicted * 3 + actual, minlength=9).reshape(3, 3)}


def opened(url: str, edition: Edition = EDITION) -> Store:
    """Open a store."""
    return Store(Database(parse_url(url)), edition)


def write(store: Store, *batches: Answered) -> int:
    """Write rows, and tell how many were new."""
    rows = block(*batches, classes=store.edition.classes)
    return store.write(rows, confusion(rows.records), confusion)


def matrix(totals: Mapping[str, Mapping[int, int]], monitor: str = "confusion") -> list[list[int]]:
    """Lay a monitor's totals out: a row for each of no, yes and none; a column for unknown, no and yes."""
    places = totals.get(monitor, {})
    return [[places.get(3 * i + j, 0) for j in range(3)] for i in range(3)]


def rows_of(store: Store, table: Any) -> list[dict[str, Any]]:
    """Read a table."""
    return store.database.read(
        lambda connection: [dict(row) for row in connection.execute(table.select()).mappings().all()]
    )
