"""Labels of files: their order, what must be declared, and the class that each row's label means."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_tables import fields, numbers, typed
from hypothesis import given
from hypothesis import strategies as st

from guards import Mistake
from guards.data.labels import class_names, indices, resolve_classes, targets
from guards.data.table import TableColumn
from guards.notices import Notices

PATH = Path("t.csv")
WHOLE = st.lists(st.integers(-(10**17), 10**17), min_size=2, max_size=20, unique=True)
WORDS = st.lists(st.text("abcxyzABC<=>", min_size=1, max_size=4), min_size=2, max_size=9, unique_by=str.casefold)


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def named(labels: TableColumn) -> tuple[str, ...]:
    """Give the class names of labels about which there is nothing to say."""
    notices = Notices()
    names = class_names(labels, notices)
    assert (notices.notes, notices.warnings) == ([], [])
    return names


@given(WHOLE, st.randoms())
def test_whole_numbers_have_one_order_in_every_file(values: list[int], random: Any) -> None:
    """Whole numbers sort by value and have one name, in whichever type, writing and order of rows they come."""
    expected = tuple(map(str, sorted(values)))
    rows = values * 2
    random.shuffle(rows)
    columns = [fields(*map(str, rows)), TableColumn(np.array(rows), "number"), typed("number", *rows, None)]
    columns.append(fields(*(f"{value}.0" for value in rows)))
    if max(map(abs, values)) < 2**53:
        columns.append(TableColumn(np.array(rows, dtype=np.float64), "number"))
    for column in columns:
        assert named(column) == expected
    for column in columns:
        present = column if column.cells.dtype != object else fields(*(c for c in column.cells if c is not None))
        assert indices(present, expected, PATH).tolist() == [expected.index(str(value)) for value in rows]


@given(WORDS, st.randoms())
def test_texts_are_sorted_by_code_point(words: list[str], random: Any) -> None:
    """Plain texts sort as LabelEncoder of scikit-learn sorts them, in whichever order the rows come."""
    rows = words * 2
    random.shuffle(rows)
    assert named(fields(*rows)) == named(typed("text", *rows)) == tuple(sorted(words))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (fields("-1", "1"), ("-1", "1")),
        (fields("+1", "-1"), ("-1", "1")),
        (fields("10", "9", "2"), ("2", "9", "10")),
        (fields("2.0", "10.0"), ("2", "10")),
        (numbers(7.0, 3.0, np.nan), ("3", "7")),
        (fields("True", "False"), ("False", "True")),
        (fields("true", "false"), ("false", "true")),
        (typed("boolean", True, False, None), ("False", "True")),
        (fields("<=50K", ">50K"), ("<=50K", ">50K")),
        (fields("001", "010", "002"), ("001", "002", "010")),
        (fields("02", "10"), ("02", "10")),
        (fields("b", "a", None), ("a", "b")),
        (typed("category", "b", "a", categories=("a", "b")), ("a", "b")),
        (typed("category", "10", "9", categories=("9", "10")), ("9", "10")),
        (typed("text", "7", "8"), ("7", "8")),
        (fields("class 1", "class 2", "n0205", "n0130"), ("class 1", "class 2", "n0130", "n0205")),
        (fields("b1", "a2"), ("a2", "b1")),
        (typed("category", "b", "a"), ("a", "b")),
        (numbers(2**60, 2**60 + 1), (str(2**60), str(2**60 + 1))),
        (numbers(*range(150), *range(150)), None),
        (TableColumn(np.repeat(np.arange(150), 10), "number"), tuple(map(str, range(150)))),
    ],
)
def test_orders_that_are_sure(labels: TableColumn, names: tuple[str, ...] | None) -> None:
    """Numbers sort by value, false before true, codes and words by code point; many numbers in few rows do not."""
    if names is None:
        with refused("150 different numbers in 300 rows look like a regression: if the model predicts a number, set"):
            named(labels)
    else:
        assert named(labels) == names


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (fields("1", "2", "other"), "some labels are numbers, such as '1', and some are not, such as 'other'"),
        (fields("1", "02"), "some labels are numbers, such as '1', and some are not, such as '02'"),
        (fields("Cat", "cat"), "'Cat' and 'cat' differ only in how they are written"),
        (fields("cat", " cat"), "' cat' and 'cat' differ only in how they are written"),
        (fields("10", "10.0"), "'10' and '10.0' differ only in how they are written"),
        (
            numbers(0.5, 1.5),
            "numbers with fractions (row 0: '0.5'), which cannot name classes: if the model predicts a number",
        ),
        (fields("2024-01-31", "2024-02-01"), "look like dates or times (row 0: '2024-01-31')"),
        (typed("date", "2024-01-31"), "the column holds date values"),
        (typed("nested", [1]), "the column holds nested values"),
        (fields("1,5", "2,5"), "look like numbers with decimal commas (row 0: '1,5')"),
        (
            typed("category", "low", "high", categories=("low", "high")),
            'in the order ["low", "high"], and sorted they are ["high", "low"]: write the order that the model was',
        ),
        (typed("category", "a", "b", categories=("a", "b", "c")), 'in the order ["a", "b", "c"], and sorted they are'),
    ],
)
def test_orders_that_must_be_declared(labels: TableColumn, sentence: str) -> None:
    """Labels whose order is not sure, or that are no classes, are refused with what to do; declared ones are taken."""
    with refused(sentence):
        class_names(labels, Notices())
    assert resolve_classes(("u", "v"), labels, regression=False, notices=Notices()) == ("u", "v")


@pytest.mark.parametrize(
    ("labels", "names", "other"),
    [
        (fields("low", "high", "medium"), ("high", "low", "medium"), '["low", "medium", "high"]'),
        (fields("S", "M", "L"), ("L", "M", "S"), '["S", "M", "L"]'),
        (typed("text", "9", "10"), ("9", "10"), '["10", "9"]'),
        (fields("class 10", "class 2"), ("class 10", "class 2"), '["class 2", "class 10"]'),
        (fields("<5", ">10", "5-10"), ("5-10", "<5", ">10"), '["<5", "5-10", ">10"]'),
        (fields("65+", "0-17", "18-64", "5-9"), ("0-17", "18-64", "5-9", "65+"), '["0-17", "5-9", "18-64", "65+"]'),
    ],
)
def test_orders_that_are_doubtful(labels: TableColumn, names: tuple[str, ...], other: str) -> None:
    """Words with an order of their own, and texts that are numbers, are warned of with both orders."""
    notices = Notices()
    assert class_names(labels, notices) == names
    (warning,) = notices.warnings
    assert other in warning
    assert "under model.classes" in warning
    notices.settle()
    assert notices.warnings == []
    assert notices.notes == [f"{warning} (the model's answers fit the order that was taken)"]


def test_labels_that_name_no_classes() -> None:
    """A single label, no label, and a label with a control character are refused."""
    for labels, sentence in {
        fields("a", "a"): "the reference has no label but 'a'",
        fields(None): "the reference has no labels: list every class",
        fields("a\n", "b"): "holds a control character",
    }.items():
        with refused(sentence):
            resolve_classes(None, labels, regression=False, notices=Notices())
    assert resolve_classes(None, None, regression=False, notices=Notices()) is None
    assert resolve_classes(None, fields("1"), regression=True, notices=Notices()) == ()


def test_a_label_is_the_class_that_is_written_so() -> None:
    """A label is the class of its name, or else the one class that is the same number or boolean."""
    assert indices(fields("7.0", "7", "3"), ("7", "3"), PATH).tolist() == [0, 0, 1]
    assert indices(numbers(7.0, 3.0), ("7.0", "3.0"), PATH).tolist() == [0, 1]
    assert indices(fields("7.0", "7"), ("7", "7.0"), PATH).tolist() == [1, 0]
    assert indices(typed("boolean", True, False), ("false", "true"), PATH).tolist() == [1, 0]
    assert indices(fields("TRUE", "False"), ("False", "True"), PATH).tolist() == [1, 0]
    with refused("t.csv, row 1: '7.00' could mean two of the classes"):
        indices(fields("7", "7.00"), ("7", "7.0"), PATH)
    with refused('t.csv, row 1: \'07\' is none of the classes ["7", "8"]'):
        indices(fields("7", "07"), ("7", "8"), PATH)


def test_rows_without_a_label_are_named() -> None:
    """Rows without a label are refused with their numbers and what to do."""
    labels = fields("a", *[None] * 7)
    with refused("t.csv, rows 1, 2, 3, 4, 5 and 2 more: no label; remove these rows from the file, or write"):
        indices(labels, ("a", "b"), PATH)
    with refused("t.csv, row 1: no label"):
        targets(numbers(1.0, np.nan), PATH)


def test_values_of_a_regression() -> None:
    """Numbers of any type are values; names are refused with the other task."""
    for labels in (fields("1.5", "-2"), numbers(1.5, -2.0), typed("number", 1.5, -2)):
        assert targets(labels, PATH).tolist() == [1.5, -2]
    with refused(
        "t.csv, the label, row 1: 'cat' is no number; if the labels are names, set model.task to classification"
    ):
        targets(fields("1", "cat"), PATH)


def test_what_a_label_that_is_no_class_may_mean() -> None:
    """The sentence about a label that is no class says if it is one in another writing, or the place of one."""
    with refused("'Cat' is none of the classes [\"ant\", \"cat\"]: write 'cat', in the same capitals, spaces and"):
        indices(fields("ant", "Cat"), ("ant", "cat"), PATH)
    with refused('\'1\' is none of the classes ["ant", "cat"]: if the file\'s numbers are places in this list, from 0'):
        indices(fields("1", "0"), ("ant", "cat"), PATH)
    for label, classes in (("2", ("ant", "cat")), ("0", ("1", "2")), ("dog", ("ant", "cat"))):
        with pytest.raises(Mistake) as told:
            indices(fields(label), classes, PATH)
        assert told.value.sentences[0].endswith("]")
