"""Slots: data written into shared memory on one side are read on the other side, bit for bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages.answer import Answer
from service.messages.slots import LINE, Layout, Slots

CAUSES = {"quality": 5, "ood": 2}


@contextmanager
def both_sides(layout: Layout, count: int) -> Iterator[tuple[Slots, Slots]]:
    """Two mappings of the same memory."""
    descriptor = Slots.make(layout, count)
    try:
        yield Slots(layout, descriptor), Slots(layout, descriptor)
    finally:
        os.close(descriptor)


def random_answer(rng: np.random.Generator, rows: int, layout: Layout, *, sets: bool, causes: bool) -> Answer:
    """Make an answer of any kind that the layout has room for."""
    guards, classes = layout.guards, layout.classes
    some: dict[str, Any] = dict.fromkeys(("probabilities", "label", "members", "value", "interval"))
    if classes:
        some["probabilities"] = rng.random((rows, classes), dtype=np.float32)
        some["label"] = rng.integers(0, classes, rows)
        some["members"] = rng.random((rows, classes)) < 0.5 if sets else None
    else:
        some["value"] = rng.standard_normal(rows).astype(np.float32)
        some["interval"] = rng.standard_normal((rows, 2)).astype(np.float32) if sets else None
    p_value = rng.random((rows, guards), dtype=np.float32)
    p_value[rng.random((rows, guards)) < 0.1] = np.nan
    return Answer(
        action=rng.integers(0, 4, rows),
        p_value=p_value,
        flagged=rng.random((rows, guards)) < 0.3,
        violated=None,
        causes={guard: rng.random((rows, n)) < 0.2 for guard, n in layout.causes.items()} if causes else {},
        **some,
    )


def assert_same(one: Answer, other: Answer) -> None:
    """Every value is the same, NaN for NaN."""
    for name in ("action", "p_value", "flagged", "probabilities", "label", "members", "value", "interval"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs)
    assert one.causes.keys() == other.causes.keys()
    for guard, marks in one.causes.items():
        np.testing.assert_array_equal(marks, other.causes[guard])


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1,), (7,), (3, 4, 5), (1, 28, 28)]),
    classes=st.sampled_from([0, 2, 10, 300]),
    guards=st.integers(0, 3),
    rows=st.integers(1, 20),
    sets=st.booleans(),
    causes=st.booleans(),
)
def test_rows_and_answers_cross_unchanged(
    seed: int, shape: tuple[int, ...], classes: int, guards: int, rows: int, sets: bool, causes: bool
) -> None:
    """Any rows in any slots arrive, and the answer to any of them comes back, whatever lay in the slots before."""
    rng = np.random.default_rng(seed)
    layout = Layout(shape, guards, classes, CAUSES if guards else {})
    with both_sides(layout, 40) as (front, engine):
        for _ in range(2):
            slots = tuple(rng.permutation(40)[:rows].tolist())
            x = rng.standard_normal((rows, *shape)).astype(np.float32)
            front.x[list(slots)] = x
            np.testing.assert_array_equal(engine.rows(slots), x)
            answer = random_answer(rng, rows, layout, sets=sets, causes=causes and guards > 0)
            engine.write(list(slots), answer)
            assert_same(front.read(list(slots)), answer)


def test_a_row_without_causes_has_none() -> None:
    """Of a request whose batches differ, a row whose batch named no causes has none, whatever the slot held before."""
    layout = Layout((1,), 1, 0, {"quality": 2})
    rng = np.random.default_rng(0)
    with both_sides(layout, 2) as (front, engine):
        with_causes = random_answer(rng, 2, layout, sets=False, causes=True)
        with_causes.causes["quality"][:] = True
        engine.write([0, 1], with_causes)
        engine.write([1], random_answer(rng, 1, layout, sets=False, causes=False))
        assert front.read([0, 1]).causes["quality"].tolist() == [[True, True], [False, False]]


@given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=3), classes=st.integers(0, 50), guards=st.integers(0, 5))
def test_no_two_slots_share_a_cache_line(shape: list[int], classes: int, guards: int) -> None:
    """A slot is a whole number of cache lines: two processes do not slow each other down."""
    assert Layout(tuple(shape), guards, classes, {}).dtype.itemsize % LINE == 0


def test_memory_without_room_for_a_slot_is_refused() -> None:
    """A front that hands over too little memory is refused."""
    descriptor = Slots.make(Layout((1,), 0, 0, {}), 1)
    try:
        with pytest.raises(ValueError, match="no room"):
            Slots(Layout((1000,), 0, 0, {}), descriptor)
    finally:
        os.close(descriptor)


def test_memory_is_given_back() -> None:
    """The memory of slots that a burst used goes back to the system; the slots before stay as they are."""
    layout = Layout((1024,), 0, 0, {})
    descriptor = Slots.make(layout, 1000)
    try:
        slots = Slots(layout, descriptor)
        slots.x[:] = 1.0
        before = os.fstat(descriptor).st_blocks
        slots.release(10)
        assert os.fstat(descriptor).st_blocks < before / 10
        assert slots.x[:10].all()
        assert not slots.x[20:].any()
    finally:
        os.close(descriptor)
