"""Made-up answers of a gateway, and a simple count of them, for tests of monitors and of the store."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from guards.config.store import StoreConfig
from guards.monitors.answered_rows import Records
from guards.types import Action
from service.messages.answer import Answer
from service.monitoring.sums import Tallies
from service.store.database import Database
from service.store.database_url import parse_url
from service.store.local_store import StoreSettings
from service.store.prediction_log import Store
from service.store.rows import Answered, Block
from service.store.served_versions import Edition

CLASSES = ("no", "yes")
GUARDS = ("ood", "quality")
EDITION = Edition("loans", "1", "sha256:0", {"confusion": "layout"}, CLASSES, thresholds=dict.fromkeys(GUARDS, 0.01))
SETTINGS = StoreSettings(EDITION, StoreConfig(retention_days=1e6), max_jobs=10, keep_jobs_seconds=60)
"""Answers of the examples are of the year 1970, so they are kept for long."""
ABSTAIN = "none"


def answered(
    ids: Sequence[str], labels: Sequence[str] | None = None, *, time: float = 1000.0, **groups: Sequence[int]
) -> Answered:
    """Answer rows with labels, or abstain if a label is `none`; every prediction set holds only the label."""
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
    """Answer rows with values, and with intervals from the value - 1 to the value + 1."""
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
    """Put batches of answers together into one block."""
    return Block(batches, classes=classes, guards=GUARDS)


def confusion(records: Records) -> Tallies:
    """Count rows by (predicted or none) and (unknown or actual); place (2, 0) has neither an answer nor a label."""
    predicted = records.predicted % 3  # UNANSWERED is -1
    actual = np.zeros_like(predicted) if records.actual is None else records.actual + 1
    return {"confusion": np.bincount(predicted * 3 + actual, minlength=9).reshape(3, 3)}


def opened(url: str, edition: Edition = EDITION) -> Store:
    """Open the store at a URL."""
    return Store(Database(parse_url(url)), edition)


def write(store: Store, *batches: Answered) -> int:
    """Write batches of answers into the store, and give the number of new rows."""
    rows = block(*batches, classes=store.edition.classes)
    return store.write(rows, confusion(rows.records), confusion)


def matrix(totals: Mapping[str, Mapping[int, int]], monitor: str = "confusion") -> list[list[int]]:
    """Turn a monitor's totals into a matrix: a row for each of no, yes and none; a column for unknown, no and yes."""
    places = totals.get(monitor, {})
    return [[places.get(3 * i + j, 0) for j in range(3)] for i in range(3)]


def rows_of(store: Store, table: Any) -> list[dict[str, Any]]:
    """Read all rows of a table of the store."""
    return store.database.read(
        lambda connection: [dict(row) for row in connection.execute(table.select()).mappings().all()]
    )
