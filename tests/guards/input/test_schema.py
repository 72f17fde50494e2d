"""The input schema turns values into tensors, and reports every fault with its row, its place and a sentence."""

import json
import math
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from guards.input.cell_faults import NOT_FINITE, Fault, describe
from guards.input.column import Column
from guards.input.schema import InputSchema, InputSpec

AGE = Column(name="age", kind="numeric")
COLOUR = Column(name="colour", kind="categorical", categories=("blue", "red", "3"))
TABLE = InputSchema(kind="tabular", shape=(2,), columns=(AGE, COLOUR))
MATRIX = InputSchema(kind="tensor", shape=(2, 3))
ROW = [[1, 2, 3], [4, 5, 6]]


def same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64), equal_nan=True)


def test_sound_table() -> None:
    """Numbers stay, missing values are NaN, categories their index, unseen ones -1."""
    x, faults = TABLE.encode({"age": [1, 2.5, None, -3], "colour": ["red", None, "green", "blue"]})
    assert faults == []
    assert x.dtype == np.float32
    assert same(x, [[1, 1], [2.5, math.nan], [math.nan, -1], [-3, 0]])


def test_names_and_kinds() -> None:
    """The schema knows its columns' names and which are categorical."""
    assert TABLE.names == ("age", "colour")
    assert TABLE.categorical.tolist() == [False, True]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1.5", "expected a number or null, got a string: '1.5'"),
        (True, "expected a number or null, got a boolean: True"),
        ([1], "expected a number or null, got a list"),
        ({"a": 1}, "expected a number or null, got an object"),
        ("x" * 100, "expected a number or null, got a string of 100 characters"),
        (1e39, NOT_FINITE),
        (-1e39, NOT_FINITE),
        (10**400, NOT_FINITE),
        (-(10**400), NOT_FINITE),
        (math.nan, NOT_FINITE),
        (math.inf, NOT_FINITE),
    ],
)
@pytest.mark.parametrize("among", [[1.0, 2.0], [1, None]], ids=["numbers", "missing"])
def test_number_fault(value: object, message: str, among: list[Any]) -> None:
    """A value that is no float32 number is a fault of its row and column, and of no other row."""
    x, faults = TABLE.encode({"age": [*among, value, 4], "colour": ["red"] * 4})
    assert faults == [Fault(2, ("age",), message)]
    assert same(x[[0, 3], 0], [1, 4])


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 0, -0.0, 10**38, 1e-300, 2**63])
def test_largest_numbers_are_sound(value: float) -> None:
    """Every number that float32 can hold is taken, rounded to it."""
    x, faults = TABLE.encode({"age": [value], "colour": ["red"]})
    assert faults == []
    assert x[0, 0] == np.float32(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "expected a string or null, got a number: 1.5"),
        (4, "expected a string or null, got a number: 4"),
        (True, "expected a string or null, got a boolean: True"),
        (["red"], "expected a string or null, got a list"),
        ({}, "expected a string or null, got an object"),
    ],
)
def test_category_fault(value: object, message: str) -> None:
    """A value that is no string is a fault if a category is expected."""
    x, faults = TABLE.encode({"age": [1, 2, 3], "colour": ["red", value, None]})
    assert faults == [Fault(1, ("colour",), message)]
    assert same(x[[0, 2], 1], [1, math.nan])


def test_integer_may_name_a_category() -> None:
    """An integer is read as the category that is written so."""
    x, faults = TABLE.encode({"age": [1, 1], "colour": [3, "3"]})
    assert faults == []
    assert x[:, 1].tolist() == [2, 2]


def test_arrays_of_numbers() -> None:
    """An array of floats holds NaN for missing; of a categorical column it holds indices, and -1 for anything else."""
    age = np.array([1.0, math.nan, 2.0, 3.0, 4.0, 5.0, 6.0])
    codes = np.array([0.0, 1.0, 2.0, 3.0, 0.5, -1.0, math.nan])
    x, faults = TABLE.encode({"age": age, "colour": codes})
    assert faults == []
    assert same(x[:, 0], age)
    assert same(x[:, 1], [0, 1, 2, -1, -1, -1, math.nan])
    x, _ = TABLE.encode({"age": age[:2], "colour": np.array([1, 99])})
    assert x[:, 1].tolist() == [1, -1]


def test_array_beyond_float32() -> None:
    """An array's value that float32 cannot hold is a fault with its row."""
    _, faults = TABLE.encode({"age": np.array([1.0, 1e39, math.inf]), "colour": np.array([0, 0, 0])})
    assert faults == [Fault(1, ("age",), NOT_FINITE), Fault(2, ("age",), NOT_FINITE)]


def test_array_of_objects() -> None:
    """An array of Python objects is read like a list."""
    x, faults = TABLE.encode(
        {"age": np.array([1, None], dtype=object), "colour": np.array(["red", None], dtype=object)}
    )
    assert faults == []
    assert same(x, [[1, 1], [math.nan, math.nan]])


def test_faults_of_all_columns_are_told() -> None:
    """Every fault of every column is listed, column by column."""
    _, faults = TABLE.encode({"age": ["a", 1, "b"], "colour": [1.5, "red", "blue"]})
    assert [(fault.row, fault.place) for fault in faults] == [(0, ("age",)), (2, ("age",)), (0, ("colour",))]


def test_sound_nested_rows() -> None:
    """Nested lists become one float32 array."""
    x, faults = MATRIX.stack([ROW, [[0, 0.5, -1], [1e-3, 2, 3]]])
    assert faults == []
    assert x.dtype == np.float32
    assert same(x, np.array([ROW, [[0, 0.5, -1], [1e-3, 2, 3]]], dtype=np.float32))


@pytest.mark.parametrize(
    ("row", "place", "message"),
    [
        ([[1, 2, 3]], (), "expected a list of 2, got one of 1"),
        ([[1, 2, 3], [4, 5]], (1,), "expected a list of 3, got one of 2"),
        ([[1, 2, 3], 4], (1,), "expected a list of 3, got a number: 4"),
        (7, (), "expected a list of 2, got a number: 7"),
        (None, (), "expected a list of 2, got null"),
        ("abc", (), "expected a list of 2, got a string: 'abc'"),
        ({"b64": "x"}, (), "expected a list of 2, got an object"),
        ([[1, 2, "3"], [4, 5, 6]], (0, 2), "expected a number, got a string: '3'"),
        ([[1, 2, True], [4, 5, 6]], (0, 2), "expected a number, got a boolean: True"),
        ([[1, 2, None], [4, 5, 6]], (0, 2), "expected a number, got null"),
        ([[1, 2, [3]], [4, 5, 6]], (0, 2), "expected a number, got a list"),
        ([[1, 2, 3], [4, 1e39, 6]], (1, 1), NOT_FINITE),
        ([[1, 2, 3], [4, 10**400, 6]], (1, 1), NOT_FINITE),
        ([[1, 2, 3], [math.nan, 5, 6]], (1, 0), NOT_FINITE),
        ([[1, 2, 3], [4, -math.inf, 6]], (1, 1), NOT_FINITE),
        ([], (), "expected a list of 2, got one of 0"),
    ],
)
def test_nested_fault(row: object, place: tuple[int, ...], message: str) -> None:
    """The first fault of a nested row has its place inside the row; sound rows beside it have none."""
    x, faults = MATRIX.stack([ROW, row, ROW])
    assert faults == [Fault(1, place, message)]
    assert x.shape == (3, 2, 3)


def test_nested_faults_of_several_rows() -> None:
    """Every faulty row has its own fault."""
    _, faults = MATRIX.stack([[[1]], ROW, "x"])
    assert [fault.row for fault in faults] == [0, 2]


def test_no_rows() -> None:
    """No rows are an empty array, and no fault."""
    x, faults = MATRIX.stack([])
    assert x.shape == (0, 2, 3)
    assert faults == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (1, "a number: 1"),
        (1.5, "a number: 1.5"),
        (True, "a boolean: True"),
        ("a", "a string: 'a'"),
        ("a" * 41, "a string of 41 characters"),
        (10**50, "a number"),
        ([], "a list"),
        ({}, "an object"),
        (b"", "bytes"),
    ],
)
def test_description_of_a_value(value: object, words: str) -> None:
    """A wrong value is named by its JSON type, and quoted if it is short."""
    assert describe(value) == words


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_example_rows_are_plausible(kind: str) -> None:
    """Made-up rows fit the schema, are the same each time, and the last of a table lacks everything."""
    schema = tiny_models.schema(kind)
    x = schema.example_rows(16)
    assert x.shape == (16, *schema.shape)
    assert torch.equal(x.nan_to_num(9), schema.example_rows(16).nan_to_num(9))
    assert not torch.equal(x.nan_to_num(9), schema.example_rows(16, seed=1).nan_to_num(9))
    if kind == "tabular":
        assert x[-1].isnan().all()
        assert set(x[:-1, 3].tolist()) <= {0.0, 1.0, 2.0}
        assert (x[:-1, 0] - 0.5).abs().max() <= 1
    else:
        assert x.min() >= 0
        assert x.max() <= 1


def test_example_rows_keep_declared_bounds() -> None:
    """Made-up numbers lie within the declared bounds, wherever the imputed value is."""
    bounds = [(10.0, 20.0, 0.0), (10.0, None, 0.0), (None, -5.0, 0.0)]
    columns = tuple(
        Column(name=str(index), kind="numeric", minimum=low, maximum=high, fill=fill)
        for index, (low, high, fill) in enumerate(bounds)
    )
    x = InputSchema(kind="tabular", shape=(3,), columns=columns).example_rows(50)[:-1]
    assert ((x[:, 0] >= 10) & (x[:, 0] <= 20)).all()
    assert (x[:, 1] >= 10).all()
    assert (x[:, 2] <= -5).all()


def test_schema_survives_json() -> None:
    """The dump that a bundle keeps validates to an equal schema."""
    schema = tiny_models.schema("tabular")
    assert InputSchema.model_validate(json.loads(json.dumps(schema.model_dump(mode="json")))) == schema


def test_labels_of_categories_are_strings() -> None:
    """Integers among declared categories are read as their digits."""
    spec = InputSpec.model_validate(
        {"kind": "tabular", "columns": [{"name": "a", "kind": "categorical", "categories": [1, "b"]}]}
    )
    assert spec.columns[0].categories == ("1", "b")


def test_which_columns_are_boolean() -> None:
    """A column whose two categories are false and true, however they are written, is boolean."""
    for categories, boolean in (
        (("False", "True"), True),
        (("true", "false"), True),
        (("true",), False),
        (("a",), False),
    ):
        assert Column(name="a", kind="categorical", categories=categories).is_boolean == boolean
    assert not Column(name="a", kind="numeric").is_boolean
