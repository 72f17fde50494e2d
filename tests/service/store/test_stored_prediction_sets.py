"""The form in which the store keeps a prediction set."""

import numpy as np
import orjson
import pytest
from example_answers import GUARDS

from guards.types import Action
from service.messages.answer import Answer
from service.messages.outcomes import Outcome
from service.store.prediction_sets import in_set, write_set
from service.store.remembered import Remembered
from service.store.rows import Answered, Block
from service.store.served_versions import Edition

CLASSES = tuple(f"class-{place}" for place in range(1003))


def answered(name: str, members: "np.typing.NDArray[np.bool_]", action: Action = Action.ALLOW) -> Answered:
    """Answer rows with prediction sets (n, k), and ids that begin with a name."""
    n, k = members.shape
    probabilities = np.full((n, k), 1 / k, np.float32)
    answer = Answer(
        action=np.full(n, action),
        p_value=np.full((n, 2), 0.5, np.float32),
        flagged=np.zeros((n, 2), bool),
        violated=None,
        causes={},
        probabilities=probabilities,
        label=probabilities.argmax(1),
        members=members,
        value=None,
        interval=None,
    )
    return Answered.of([f"{name}-{row}" for row in range(n)], 0.0, answer, {})


@pytest.mark.parametrize("size", [0, 1, 100, 101, 500, 1003])
def test_a_set_is_read_as_it_was_written(size: int) -> None:
    """Few labels are a list of them, many are bits: either way each label is in it or is not, as it was."""
    members = np.zeros((1, len(CLASSES)), bool)
    members[0, np.random.default_rng(size).permutation(len(CLASSES))[:size]] = True
    written = write_set(np.packbits(members, axis=1)[0].tobytes(), CLASSES)
    assert isinstance(orjson.loads(written), list) == (size <= 100)
    assert len(written) < 1500
    assert [in_set(written, label, place) for place, label in enumerate(CLASSES)] == members[0].tolist()
    assert not in_set(written, "no label", None)


def test_coverage_of_large_sets() -> None:
    """A block of rows with sets of one label to all of them: outcomes are covered exactly if the set held them."""
    members = np.tri(50, len(CLASSES), 960, dtype=bool)
    members[:10] = np.tri(10, len(CLASSES), dtype=bool)
    held = answered("a", members[:30]), answered("b", members[30:]), answered("c", members[:5], Action.ABSTAIN)
    assert all(one.answer.members is None for one in held)
    assert sum(one.sets.nbytes for one in held if one.sets is not None) < 8000
    block = Block(held, classes=CLASSES, guards=GUARDS)
    rows = orjson.loads(block.predictions(np.zeros(len(block), np.bool_)))
    sets = {row[0]: row[5] for row in rows}
    assert {key for key, value in sets.items() if value is None} == set(held[2].ids)
    names = [*held[0].ids, *held[1].ids]
    remembered = [
        Remembered(row, 0, CLASSES[0], None, 0.5, sets[name], None, None, 0, None) for row, name in enumerate(names)
    ]
    for label in (0, 5, 965, 1002):
        truths = [Outcome(name, label=CLASSES[label]) for name in names]
        covered = Remembered.joined(remembered, truths, CLASSES).covered
        assert covered is not None
        assert covered.tolist() == members[:, label].astype(int).tolist()


def test_flags_on_purpose_are_stored_as_no_alarms() -> None:
    """The records of a block leave out the flags of guards that abstain on purpose."""
    held = answered("row", np.ones((3, 4), bool))
    held.answer.flagged[:] = [[True, False], [False, True], [False, False]]
    edition = Edition("m", "1", "", {}, config={"guards": [{"name": "a"}, {"name": "b", "target_error": 0.05}]})
    assert edition.on_purpose == [1]
    block = Block([held], classes=CLASSES, guards=GUARDS, on_purpose=edition.on_purpose)
    assert block.records.flagged is not None
    assert block.records.flagged.tolist() == [True, False, False]
    both = Block([held], classes=CLASSES, guards=GUARDS).records.flagged
    assert both is not None
    assert both.tolist() == [True, True, False]
