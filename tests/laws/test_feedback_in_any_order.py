"""Laws of feedback: in any order and with any repetition, the totals equal the totals of a list kept by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from example_answers import ABSTAIN, CLASSES, EDITION, answered, confusion, matrix, opened, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.messages.outcomes import Outcome
from service.store.database import Database
from service.store.prediction_log import Store

IDS = st.sampled_from("abcdefgh")
PREDICTION = st.tuples(IDS, st.sampled_from([*CLASSES, ABSTAIN]))
OUTCOME = st.tuples(IDS, st.sampled_from(CLASSES), st.booleans())
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("predict"), st.lists(PREDICTION, min_size=1, max_size=6), st.integers(0, 1)),
        st.tuples(st.just("learn"), st.lists(OUTCOME, min_size=1, max_size=8), st.integers(0, 1)),
    ),
    max_size=12,
)


TOLD = ("accepted", "duplicate", "conflicting", "unknown", "replaced")


class Model:
    """The same by hand: the first prediction of an id stands, and its first outcome until another replaces it."""

    def __init__(self) -> None:
        self.predicted: dict[str, str] = {}
        self.actual: dict[str, str] = {}

    def predict(self, rows: list[tuple[str, str]]) -> int:
        before = len(self.predicted)
        for name, label in rows:
            self.predicted.setdefault(name, label)
        return len(self.predicted) - before

    def learn(self, outcomes: list[tuple[str, str, bool]]) -> dict[str, list[int]]:
        told: dict[str, list[int]] = {name: [] for name in TOLD}
        for place, (name, label, replacing) in enumerate(outcomes):
            if name not in self.predicted:
                told["unknown"].append(place)
            elif name not in self.actual:
                self.actual[name] = label
                told["accepted"].append(place)
            elif replacing and self.actual[name] != label:
                self.actual[name] = label
                told["replaced"].append(place)
            else:
                told["duplicate" if self.actual[name] == label else "conflicting"].append(place)
        return told

    @property
    def matrix(self) -> list[list[int]]:
        counts = [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
        rows = (*CLASSES, ABSTAIN)
        for name, label in self.predicted.items():
            counts[rows.index(label)][0] += 1
            if name in self.actual:
                counts[rows.index(label)][1 + CLASSES.index(self.actual[name])] += 1
        return counts


RUNS = iter(range(10**9))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_totals_are_those_of_a_list(replicas: list[Database], steps: list[tuple[str, Any, int]]) -> None:
    """Every answer to feedback and the totals at the end equal the list's; sending all again changes nothing."""
    edition = replace(EDITION, model=f"run-{next(RUNS)}")
    stores = [Store(database, edition) for database in replicas]
    model = Model()
    for step, rows, replica in steps:
        if step == "predict":
            ids, labels = zip(*rows, strict=True)
            assert write(stores[replica], answered(ids, labels)) == model.predict(rows)
        else:
            truths = [Outcome(name, label, replace=replacing) for name, label, replacing in rows]
            verdict = stores[replica].join(truths, confusion)
            told = {name: getattr(verdict, name) for name in TOLD}
            assert told == model.learn(rows)
    assert matrix(stores[0].totals().totals) == model.matrix
    for step, rows, replica in steps:
        if step == "predict":
            ids, labels = zip(*rows, strict=True)
            assert write(stores[1 - replica], answered(ids, labels)) == 0
        else:
            known = [Outcome(name, label) for name, label, _ in rows if name in model.actual]
            assert stores[1 - replica].join(known, confusion).accepted == []
    assert matrix(stores[1].totals().totals) == model.matrix


def test_the_database_starts_empty(tmp_path: Path) -> None:
    """An empty store has no totals."""
    store = opened(f"sqlite:///{tmp_path / 'x.db'}")
    assert store.totals().totals == {}
    store.database.close()
