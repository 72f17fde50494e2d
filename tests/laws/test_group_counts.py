"""Group counts add up in any order, in any batches, over any replicas, and with labels of any delay."""

from dataclasses import replace

import example_groups
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guards.monitors.accuracy import Accuracy, AccuracyParams
from guards.monitors.answered_rows import Records
from guards.monitors.groups.monitor import Groups

ROWS = 40
ROW = st.tuples(
    st.integers(0, 3), st.integers(-1, 1), st.integers(0, 1), st.integers(0, 3), st.floats(0.5, 1), st.floats(1, 50)
)


@settings(deadline=None, max_examples=12)
@given(
    rows=st.lists(ROW, min_size=ROWS, max_size=ROWS),
    order=st.permutations(range(ROWS)),
    labels=st.permutations(range(ROWS)),
    where=st.lists(st.integers(0, 2), min_size=2 * ROWS, max_size=2 * ROWS),
    size=st.integers(1, ROWS),
)
def test_totals_are_the_same_however_they_come(
    rows: list[tuple[int, int, int, int, float, float]],
    order: list[int],
    labels: list[int],
    where: list[int],
    size: int,
) -> None:
    """Answered in any order and batches on three replicas, labelled in any other order and place: the same totals."""
    group, predicted, actual, action, confidence, weight = (np.array(column) for column in zip(*rows, strict=True))
    predicted = np.where(action >= 2, -1, predicted)

    def make() -> tuple[Groups, Accuracy]:
        watched = example_groups.monitor(tolerance=0.0)
        context = replace(watched.context, monitors=(watched.params,))
        return watched, Accuracy(AccuracyParams(name="accuracy", groups="sex"), context)

    def answered(index: list[int]) -> Records:
        i = np.array(index)
        return example_groups.records(group[i], predicted[i], action=action[i], confidence=confidence[i])

    def labelled(index: list[int]) -> Records:
        i = np.array(index)
        more = {"action": action[i], "confidence": confidence[i], "weight": weight[i], "covered": actual[i]}
        return example_groups.records(group[i], predicted[i], actual[i], **more)

    replicas = [make() for _ in range(3)]
    whole = make()
    for one in whole:
        one.counts += one.tally(answered(list(range(ROWS))))
        one.join(labelled(list(range(ROWS))))
    for step, start in enumerate(range(0, ROWS, size)):
        for index, make_records, turn in ((order, answered, 0), (labels, labelled, ROWS)):
            for one in replicas[where[step + turn]]:
                one.join(make_records(list(index[start : start + size])))
    for place, one in enumerate(whole):
        total = sum((replica[place].counts for replica in replicas), start=np.zeros_like(one.counts))
        assert np.array_equal(total, one.counts)
    first = whole[0]
    fresh = example_groups.monitor(tolerance=0.0)
    fresh.judge_by(first.counts.copy(), first.recent())
    assert fresh.report() == first.report()
    assert not fresh.counts.any()
