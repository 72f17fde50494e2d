"""Laws of exclusions and resets: after any steps, the totals are those of the rows that count by today's rules."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from example_answers import ABSTAIN, CLASSES, EDITION, answered, block, confusion, matrix
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guards.monitors.answered_rows import Records
from service.messages.monitor_changes import Change
from service.messages.outcomes import Outcome
from service.messages.row_name import row_name
from service.monitoring.sums import Tallies
from service.store.database import Database
from service.store.prediction_log import Store

OWNERS = st.sampled_from(["shop", "sh"])
ROW = st.tuples(
    OWNERS, st.sampled_from("ab"), st.sampled_from([*CLASSES, ABSTAIN]), st.sampled_from([False] * 4 + [True])
)
OUTCOME = st.tuples(OWNERS, st.sampled_from("ab"), st.sampled_from(CLASSES), st.booleans())
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("predict"), st.lists(ROW, min_size=2, max_size=5), st.integers(0, 1)),
        st.tuples(st.just("learn"), st.lists(OUTCOME, min_size=2, max_size=5), st.integers(0, 1)),
        st.tuples(st.sampled_from(["exclude", "exclude", "include"]), OWNERS, st.integers(0, 1)),
        st.tuples(st.just("reset"), st.just("confusion"), st.integers(0, 1)),
    ),
    min_size=8,
    max_size=16,
)
RUNS = iter(range(10**9))


def tally(records: Records) -> Tallies:
    return confusion(records.counted_by("confusion"))


@dataclass
class Row:
    """A stored row, by hand; ``skipped`` if the monitor's own rules leave it out."""

    owner: str
    label: str
    skipped: bool
    actual: str | None = None
    repeated: bool = False


class Model:
    """The same by hand: a row counts if its principal is included now, and if the monitor was not reset since."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.excluded: set[str] = set()

    def predict(self, rows: list[tuple[str, str, str, bool]]) -> None:
        for owner, name, label, skipped in rows:
            key = row_name(owner, name)
            if key in self.rows:
                self.rows[key].repeated = True
            self.rows.setdefault(key, Row(owner, label, skipped))

    def learn(self, outcomes: list[tuple[str, str, str, bool]]) -> set[int]:
        """Join outcomes, and give the places of those whose ids were used again."""
        found = set()
        for place, (owner, name, label, replacing) in enumerate(outcomes):
            row = self.rows.get(row_name(owner, name))
            if row is not None:
                row.actual = label if row.actual is None or replacing else row.actual
                found |= {place} if row.repeated else set()
        return found

    def reset(self) -> None:
        for row in self.rows.values():
            row.skipped = True

    @property
    def matrix(self) -> list[list[int]]:
        counts = [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
        for row in self.rows.values():
            if row.owner not in self.excluded and not row.skipped:
                place = (*CLASSES, ABSTAIN).index(row.label)
                counts[place][0] += 1
                if row.actual is not None:
                    counts[place][1 + CLASSES.index(row.actual)] += 1
        return counts


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_totals_are_those_of_the_rows_that_count(replicas: list[Database], steps: list[tuple[str, Any, int]]) -> None:
    """After each step the totals equal the hand's, whichever server did the step; a repeated id is told of."""
    edition = replace(EDITION, model=f"changed-{next(RUNS)}")
    stores = [Store(database, edition) for database in replicas]
    model = Model()
    for number, (step, what, replica) in enumerate(steps):
        store = stores[replica]
        if step == "predict":
            labels = [label for _, _, label, _ in what]
            names = [row_name(owner, name) for owner, name, _, _ in what]
            skipped = {"confusion": np.array([skip for _, _, _, skip in what])}
            rows = block(replace(answered(names, labels, time=number), skipped=skipped))
            store.write(rows, tally(rows.records), tally)
            model.predict(what)
        elif step == "learn":
            truths = [Outcome(row_name(o, name), label, replace=again) for o, name, label, again in what]
            assert set(store.join(truths, tally).repeated) == model.learn(what)
        else:
            change = store.change(Change(step, what, "because", "boss"), tally)
            model.excluded = {*model.excluded, what} if step == "exclude" else model.excluded - {what}
            if step == "reset":
                model.reset()
            assert change.standing.excluded == model.excluded
            assert (change.standing.changes[0].kind, change.standing.changes[0].by) == (step, "boss")
        assert matrix(stores[1 - replica].totals().totals) == model.matrix, step
    changed = [(kind, subject) for kind, subject, _ in steps if kind in ("exclude", "include", "reset")]
    assert [(each.kind, each.subject) for each in reversed(stores[0].standing().changes)] == changed
    place: int | None = 0
    while place is not None:  # as after a start: nothing is moved twice
        moved, place = stores[0].sweep(place, tally)
        assert moved == 0
