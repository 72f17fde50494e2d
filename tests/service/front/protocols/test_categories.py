"""A value of a categorical column means the same by every protocol, or is refused with a sentence."""

import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_engine import served_config
from tiny_models import document
from v2_client import HEADER, binary_request, head, json_request, packed

from guards.config.config import parse
from guards.data.rows import rows_from_table
from guards.data.table import Table, TableColumn
from guards.data.table_file import read_table
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.types import Mistake
from service.front.protocols import grpc_predict_v2_pb2 as messages
from service.front.protocols import v1, v2, v2_grpc
from service.front.protocols.problem import Problem
from service.front.protocols.v2_outputs import alternatives_of
from service.messages.served_model import ServedModel

NUMERALS = (
    "0",
    "1",
    "2",
    "3",
    "-1",
    "1.0",
    "2.0",
    "0.5",
    "01",
    "1e0",
    "True",
    "true",
    "false",
    "False",
    "TRUE",
    "a",
    "b",
)
VALUES = (0, 1, 2, 3, -1, 0.0, 1.0, 2.0, 0.5, -0.0, True, False, *NUMERALS)
UNSEEN = -1.0
CONFIG = parse(document("tabular", server={"max_rows_per_request": 4, "max_queue_rows": 4}))


def schema_of(categories: tuple[str, ...]) -> InputSchema:
    columns = (Column(name="n", kind="numeric"), Column(name="c", kind="categorical", categories=categories))
    return InputSchema(kind="tabular", shape=(2,), columns=columns)


def served(schema: InputSchema) -> ServedModel:
    return served_config(CONFIG, schema)


def code(read: Callable[[], Any]) -> float | None:
    """Give the code that a door read for the category, or None if it refused the row."""
    try:
        rows = read()
    except (Problem, Mistake) as refusal:
        if isinstance(refusal, Problem) and refusal.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            raise
        return None
    return float(rows[0][1])


def by_v1(value: object, schema: InputSchema, *, named: bool = False) -> float | None:
    row = {"n": 0.5, "c": value} if named else [0.5, value]
    body = json.dumps({"instances": [row]}).encode()
    return code(lambda: v1.decode(body, schema=schema, max_rows=4, parameters={}).x)


def message(arrays: dict[str, Any]) -> Any:
    request = messages.ModelInferRequest(model_name="toy")
    for name, array in arrays.items():
        request.inputs.add(**head(name, array))
        request.raw_input_contents.append(packed(array))
    return request


def by_v2(arrays: dict[str, Any], schema: InputSchema) -> set[float | None]:
    """Read tensors as JSON, as binary data and as a message."""
    body, headers = binary_request(arrays)
    return {
        code(lambda: v2.decode(json.dumps(json_request(arrays)).encode(), None, served(schema)).rows.x),
        code(lambda: v2.decode(body, headers[HEADER], served(schema)).rows.x),
        code(lambda: v2_grpc.decode(message(arrays), served(schema)).rows.x),
    }


def by_table(value: object, schema: InputSchema) -> float | None:
    kind = "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    cells = np.array([value], dtype=object if isinstance(value, bool | str) else None)
    columns = {"n": TableColumn(np.array([0.5]), "number"), "c": TableColumn(cells, kind)}
    return code(lambda: rows_from_table(Table(Path("t"), columns), schema, label="y", classes=()).x)


@given(st.lists(st.sampled_from(NUMERALS), min_size=2, max_size=6, unique=True), st.sampled_from(VALUES))
@settings(max_examples=600, deadline=None)
def test_a_value_means_the_same_by_every_door(categories: list[str], value: Any) -> None:
    """Every door reads the same category or refuses; and an index is taken only if no name is written so."""
    schema = schema_of(tuple(categories))
    array = np.array([value], dtype=object if isinstance(value, str) else None)
    names = {by_v1(value, schema), by_v1(value, schema, named=True), by_table(value, schema)}
    names |= by_v2({"n": np.zeros(1, dtype=np.float32), "c": array}, schema)
    read = names - {None}
    assert len(read) <= 1, names
    if isinstance(value, str):
        return
    dtypes = (
        [bool] if isinstance(value, bool) else [np.float32, np.float64, *([np.int64] if value == int(value) else [])]
    )
    indices = {found for dtype in dtypes for found in by_v2({"x": np.array([[0, value]], dtype=dtype)}, schema)} - {
        None
    }
    assert len(indices) <= 1
    if read and read != {UNSEEN}:
        assert indices <= read


@pytest.mark.parametrize(
    ("categories", "taken"),
    [
        (("0", "1", "2"), True),
        (("a", "b"), True),
        (("0.0", "1.0"), True),
        (("1", "2", "3"), False),
        (("1.0", "2.0"), False),
        (("a", "0"), False),
        (("-1", "0", "1"), False),
    ],
    ids=str,
)
def test_an_index_is_taken_if_it_can_mean_nothing_else(categories: tuple[str, ...], taken: bool) -> None:
    """`x` is refused, with the column and what to send, if a number in it could be read as another category's name."""
    schema = schema_of(categories)
    x = np.array([[0.5, 1.0]], dtype=np.float32)
    (found,) = by_v2({"x": x}, schema)
    assert found == (1.0 if taken else None)
    assert bool(alternatives_of(schema)) == taken
    if not taken:
        with pytest.raises(Problem) as told:
            v2_grpc.decode(message({"x": x}), served(schema))
        assert "'c' as BYTES" in told.value.sentence
        name = np.array([categories[1]], dtype=object)
        assert by_v2({"n": np.array([0.5]), "c": name}, schema) == {1.0}


def test_what_says_that_an_index_is_one() -> None:
    """The metadata of `x` say that a category is sent by its index, and nothing of the kind without categories."""
    ((spec,),) = alternatives_of(schema_of(("a", "b")))
    assert spec.parameters == {"categories": "index"}
    plain = InputSchema(kind="tabular", shape=(2,), columns=tuple(Column(name=n, kind="numeric") for n in "ab"))
    ((spec,),) = alternatives_of(plain)
    assert spec.parameters == {}


@pytest.mark.parametrize(
    ("categories", "value", "expected"),
    [
        (("1", "2"), 1, 0.0),
        (("1", "2"), 1.0, 0.0),
        (("2.0", "1.0"), 1, 1.0),
        (("0.5", "x"), 0.5, 0.0),
        (("False", "True"), True, 1.0),
        (("false", "true"), False, 0.0),
        (("1", "1.0"), 1, None),
        (("True", "true"), True, None),
        (("a", "b"), 1, None),
        (("1", "2"), True, None),
        (("01", "02"), 1, None),
    ],
    ids=str,
)
def test_a_number_names_the_category_that_is_written_so(
    categories: tuple[str, ...], value: object, expected: float | None
) -> None:
    """1 and 1.0 are one number and one category, true is "true" or "True"; what could be two, or none, is refused."""
    schema = schema_of(categories)
    assert by_v1(value, schema) == expected
    if expected is not None:
        assert by_table(value, schema) == expected


def test_parquet_reads_as_the_csv_that_was_fitted(tmp_path: Path) -> None:
    """Numbers and booleans of a Parquet file are the categories that a CSV had as texts, though one is missing."""
    schema = schema_of(("1.0", "2.0"))
    pd.DataFrame({"n": [0.5, 0.5], "c": pd.array([2, None], dtype="Int64")}).to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    rows = rows_from_table(table, schema, label="y", classes=())
    assert np.array_equal(rows.x[:, 1].numpy(), [1.0, np.nan], equal_nan=True)
    pd.DataFrame({"n": [0.5, 0.5], "c": [True, False]}).to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    rows = rows_from_table(table, schema_of(("false", "true")), label="y", classes=())
    assert rows.x[:, 1].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("categories", [("False", "True"), ("false", "true"), ("FALSE", "TRUE")], ids=str)
def test_a_boolean_column_takes_true_and_false_by_every_door(categories: tuple[str, ...]) -> None:
    """True and false are the same categories as JSON booleans, as strings, as BOOL and BYTES tensors, and in files."""
    schema = schema_of(categories)
    numbers = {"n": np.zeros(1, dtype=np.float32)}
    for truth in (True, False):
        for written in (truth, str(truth), str(truth).lower(), str(truth).upper()):
            array = np.array([written], dtype=object if isinstance(written, str) else None)
            doors = {by_v1(written, schema), by_v1(written, schema, named=True), by_table(written, schema)}
            assert doors | by_v2({**numbers, "c": array}, schema) == {float(truth)}
        for other in (int(truth), float(truth)):
            assert by_v1(other, schema) is None
            assert by_table(other, schema) == UNSEEN
            assert by_v2({**numbers, "c": np.array([other])}, schema) == {None}
    for categorical in (("a", "b"), ("0", "1")):
        assert by_v2({**numbers, "c": np.array([True])}, schema_of(categorical)) == {None}


def test_a_missing_boolean() -> None:
    """A null in a BOOL tensor is a missing value, and a byte that is neither 0 nor 1 is refused."""
    schema = schema_of(("False", "True"))
    heads = [{"name": "n", "datatype": "FP32", "shape": [2], "data": [0.5, 0.5]}]
    body = {"inputs": [*heads, {"name": "c", "datatype": "BOOL", "shape": [2], "data": [None, True]}]}
    rows = v2.decode(json.dumps(body).encode(), None, served(schema)).rows.x
    assert np.array_equal(rows[:, 1], [np.nan, 1], equal_nan=True)
    numbers = np.zeros(1, dtype=np.float32)
    body, headers = binary_request({"n": numbers, "c": np.array([True])})
    with pytest.raises(Problem) as told:
        v2.decode(body[:-1] + b"\x02", headers[HEADER], served(schema))
    assert "a BOOL is 0 or 1" in told.value.sentence


def test_a_string_that_is_declared_missing_is_missing_by_every_door() -> None:
    """A column's `missing` values are missing in a request as in a file, as a string or as a number."""
    columns = (
        Column(name="n", kind="numeric", missing=("-999",)),
        Column(name="c", kind="categorical", categories=("a", "1"), missing=("NA", "-1")),
    )
    schema = InputSchema(kind="tabular", shape=(2,), columns=columns)
    for value in ("NA", "-1", -1, None):
        body = json.dumps({"instances": [[-999, value], [-998.5, "a"]]}).encode()
        x = v1.decode(body, schema=schema, max_rows=4, parameters={}).x
        assert np.array_equal(x, [[np.nan, np.nan], [-998.5, 0]], equal_nan=True)
    given = {"n": np.array([-999.0], dtype=np.float32), "c": np.array(["NA"], dtype=object)}
    assert np.isnan([*by_v2(given, schema)]).all()
    numeric = InputSchema(kind="tabular", shape=(2,), columns=(columns[0], Column(name="m", kind="numeric")))
    x, faults = numeric.take(np.array([[-999, -999]], dtype=np.float32))
    assert (faults, np.isnan(x).tolist()) == ([], [[True, False]])
