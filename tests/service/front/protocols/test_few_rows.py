"""Answers to few rows are written with plain lists: the same answers as numpy's."""

import math
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.front.protocols.v1_predictions import FEW, classified
from service.messages.answer import Answer

LABELS = 6


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Make up answers with many equal probabilities, some of them NaN: a softmax gives no other odd value."""
    rows = draw(st.integers(1, 4))
    values = st.sampled_from([0.0, -0.0, 0.125, 0.25, 1.0, math.nan]) | st.floats(0, 1, width=32)
    table = st.lists(st.lists(values, min_size=LABELS, max_size=LABELS), min_size=rows, max_size=rows)
    inside = st.lists(st.lists(st.booleans(), min_size=LABELS, max_size=LABELS), min_size=rows, max_size=rows)
    members = draw(st.none() | inside)
    return Answer(
        action=np.zeros(rows, np.uint8),
        p_value=np.ones((rows, 1), np.float32),
        flagged=np.zeros((rows, 1), bool),
        violated=None,
        causes={},
        probabilities=np.array(draw(table), np.float32),
        label=np.array(draw(st.lists(st.integers(0, LABELS - 1), min_size=rows, max_size=rows)), np.int32),
        members=None if members is None else np.array(members, bool),
        value=None,
        interval=None,
    )


@given(answers(), st.none() | st.integers(1, LABELS), st.sampled_from([2, 100]))
def test_lists_and_numpy_agree(answer: Answer, top_k: int | None, shown: int) -> None:
    """Labels, probabilities and sets are named alike, in the same order, cut at the same place."""
    classes = tuple("abcdef")
    with patch("service.front.protocols.v1_predictions.SHOWN", shown):
        few = classified(answer, classes, top_k)
        with patch("service.front.protocols.v1_predictions.FEW", 0):
            many = classified(answer, classes, top_k)
    assert _text(few) == _text(many)


def _text(rows: list[dict[str, Any]]) -> str:
    """Write rows so that NaN equals NaN, and the order of names counts."""
    return repr(rows)


def test_most_answers_are_few() -> None:
    """A row of a hundred labels, and thirty rows of ten, are written with lists."""
    assert FEW >= 300
