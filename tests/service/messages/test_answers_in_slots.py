"""Answers in shared memory: what is written is read, one row at a time or many."""

import os

import numpy as np
import pytest

from service.messages.answer import Answer
from service.messages.slots import Layout, Slots

GUARDS, ROWS = 3, 4


def _answer(classes: int, *, more: bool) -> Answer:
    rng = np.random.default_rng(0)
    return Answer(
        action=rng.integers(0, 4, ROWS).astype(np.uint8),
        p_value=rng.random((ROWS, GUARDS)).astype(np.float32),
        flagged=rng.random((ROWS, GUARDS)) < 0.5,
        violated=None,
        causes={"ood": rng.random((ROWS, 5)) < 0.5} if more else {},
        probabilities=rng.random((ROWS, classes)).astype(np.float32) if classes else None,
        label=rng.integers(0, classes, ROWS).astype(np.int32) if classes else None,
        members=rng.random((ROWS, classes)) < 0.5 if classes and more else None,
        value=None if classes else rng.random(ROWS).astype(np.float32),
        interval=rng.random((ROWS, 2)).astype(np.float32) if more and not classes else None,
    )


@pytest.mark.parametrize("more", [False, True], ids=["least", "all"])
@pytest.mark.parametrize("classes", [0, 7])
def test_one_row_is_read_as_many_are(classes: int, more: bool) -> None:
    """Every array of an answer comes back with its type and its bits, by either way of reading."""
    layout = Layout((5,), GUARDS, classes, {"quality": 2, "ood": 5})
    descriptor = Slots.make(layout, 8)
    slots = Slots(layout, descriptor)
    os.close(descriptor)
    at, written = (6, 1, 2, 5), _answer(classes, more=more)
    slots.write(at, written)
    together, alone = slots.read(at), [slots.read([slot]) for slot in at]
    for found in (together, Answer.join(alone)):
        for name in Answer.__slots__:
            wanted, given = getattr(written, name), getattr(found, name)
            if name == "causes":
                assert wanted.keys() == given.keys()
                assert all(np.array_equal(wanted[guard], given[guard]) for guard in wanted)
            elif wanted is None:
                assert given is None
            else:
                assert given.dtype == wanted.dtype
                assert np.array_equal(given, wanted)


def test_an_answer_does_not_change_with_its_slot() -> None:
    """A slot that the next request uses changes no answer that was read before."""
    layout = Layout((5,), GUARDS, 7, {})
    descriptor = Slots.make(layout, 8)
    slots = Slots(layout, descriptor)
    os.close(descriptor)
    slots.write((3, 4), _answer(7, more=False).rows(0, 2))
    one, two = slots.read([3]), slots.read([3, 4])
    before = one.p_value.tobytes(), two.p_value.tobytes()
    slots.write((3, 4), _answer(7, more=False).rows(2, 4))
    assert (one.p_value.tobytes(), two.p_value.tobytes()) == before
