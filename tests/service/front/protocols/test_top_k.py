"""Which labels of each row an answer names, and how large the answer may become."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.front.protocols.top_k import SHOWN, most_likely, read_top_k, refusal, text_bytes


@given(st.data())
def test_the_most_likely_are_the_first_of_a_stable_sort(data: st.DataObject) -> None:
    """Of few values, so that many are equal, with NaN among them: the same labels in the same order as a whole sort."""
    rows, labels = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    count = data.draw(st.integers(1, labels))
    values = st.sampled_from([0.0, 0.25, 0.5, np.nan])
    probabilities = np.array(data.draw(st.lists(values, min_size=rows * labels, max_size=rows * labels)), np.float32)
    probabilities = probabilities.reshape(rows, labels)
    whole = np.argsort(-np.nan_to_num(probabilities, nan=-np.inf, neginf=-np.inf), axis=1, kind="stable")
    assert most_likely(probabilities, count).tolist() == whole[:, :count].tolist()


def test_the_answered_label_leads_where_all_are_equally_likely() -> None:
    """Of a thousand equal probabilities the first is the label, and the first of those that are named."""
    equal = np.full((2, 1000), 0.001, np.float32)
    assert most_likely(equal, 3).tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("value", "labels", "read"), [(1, 10, 1), (10, 10, 10), (11, 10, 10), (10**30, 10, 10), ("all", 10, None)]
)
def test_a_number_of_labels(value: object, labels: int, read: int | None) -> None:
    """More than there are is all of them, ordered; `all` is all of them as they are."""
    assert read_top_k(value, labels) == read


@pytest.mark.parametrize("value", [0, -1, True, 3.0, 1e9, "3", "", "ALL", None, [5]])
def test_what_is_no_number_of_labels(value: object) -> None:
    """Anything but a whole number from 1 up, or `all`, is refused with what was sent."""
    with pytest.raises(ValueError, match='expected a whole number from 1 up, or "all", got '):
        read_top_k(value, 10)


def test_a_regression_has_no_labels() -> None:
    """A regression refuses `top_k`, because it has no labels."""
    with pytest.raises(ValueError, match="the model answers a value and has no labels: leave `top_k` out"):
        read_top_k(5, 0)


def test_what_makes_too_large_an_answer() -> None:
    """The refusal has the number of rows that fit, and a model whose answers are whole is never refused."""
    assert refusal(64, 10_000, 10_000, 35) is None
    said = refusal(1024, 10_000, 10_000, 35)
    assert said == (
        "10000 labels of each of 1024 rows make an answer of more than 32 MiB: "
        "send at most 95 rows, or ask for fewer labels with `top_k`"
    )
    assert refusal(95, 10_000, 10_000, 35) is None
    assert refusal(96, 10_000, 10_000, 35) is not None
    assert refusal(10**9, SHOWN, SHOWN, 35) is None
    assert str(refusal(1, 10**7, 10**7, 35)).endswith("32 MiB: ask for fewer labels with `top_k`")


def test_what_a_label_takes() -> None:
    """On average, in bytes and not in letters, with quotes, colon and comma."""
    assert text_bytes(("ab", "éé")) == 4 + 3
