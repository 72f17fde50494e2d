"""Rows of nothing but numbers: the short way and the exact way make the same rows, and find the same faults."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guards.input.schema import InputSchema
from service.front.protocols.plain_numbers import frame_of, read_numbers, stack_numbers
from service.front.protocols.problem import Problem
from service.front.protocols.v1 import decode

TENSOR = InputSchema(kind="tensor", shape=(2, 2))
IMAGE = InputSchema(kind="image", shape=(1, 2, 2))
PARAMETERS = {"detail": bool, "top_k": (int, str)}
numbers = st.floats(width=32) | st.floats() | st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, -0.0, 1e400, 3e38])
odd = st.sampled_from([True, False, None, "1.5", "true", "", ":", '"', "nan", [], {}, [1], {"b64": "x"}, 10**400])
values = numbers | numbers | numbers | odd
tensors = st.lists(st.lists(values, min_size=2, max_size=2), min_size=2, max_size=2) | values
images = tensors.map(lambda row: [row])
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "ids": st.lists(st.text(max_size=4) | odd, max_size=3) | odd,
    "groups": st.dictionaries(st.sampled_from(["sex", "x"]), st.lists(st.none() | st.text(max_size=3), max_size=3)),
    "parameters": st.dictionaries(st.sampled_from(["detail", "top_k", "x"]), st.booleans() | odd, max_size=2),
    "other": odd,
}


@contextmanager
def exactly() -> Iterator[None]:
    """Decode by the decoder that checks every value."""
    with (
        patch("service.front.protocols.v1.read_numbers", return_value=None),
        patch("service.front.protocols.v1.stack_numbers", return_value=None),
    ):
        yield


def _outcome(body: bytes, schema: InputSchema) -> tuple[Any, ...]:
    """Decode a body: the rows' bits and everything else of the request, or the whole problem."""
    try:
        made = decode(body, schema=schema, max_rows=5, groups=["sex"], parameters=PARAMETERS)
    except Problem as problem:
        return problem.status, problem.detail, list(problem.errors)
    ids = None if json.loads(body).get("ids") is None else made.ids
    return made.x.dtype, made.x.shape, made.x.tobytes(), ids, made.groups, made.parameters


@pytest.mark.parametrize(("schema", "rows"), [(TENSOR, tensors), (IMAGE, images)], ids=["tensor", "image"])
def test_both_ways_agree(schema: InputSchema, rows: st.SearchStrategy[Any]) -> None:
    """The short way gives the same bits of the rows and the same words of the problem as the long way."""

    @given(
        st.lists(rows, max_size=3),
        st.fixed_dictionaries({}, optional=MEMBERS),
        st.sampled_from([None, 1]),
    )
    @example([[["1", "2"], ["3", "4"]]], {"ids": [1, 2, 3, 4]}, None)
    @example([[[True, 2.5], [3.5, 4.5]]], {"ids": ["true"]}, None)
    @example([[[True, 2.5], [3.5, 4.5]]], {"parameters": {"detail": True}}, None)
    @example([[[1.0, None], [3.5, 4.5]]], {}, None)
    def check(instances: list[Any], more: dict[str, Any], indent: int | None) -> None:
        body = json.dumps({"instances": instances, **more}, indent=indent).encode()
        short = _outcome(body, schema)
        with exactly():
            assert _outcome(body, schema) == short

    check()


@given(st.text(alphabet='{}[]:,"0123456789.eE+-truefalsnisc \\', max_size=60))
def test_both_ways_agree_on_text_that_is_nearly_json(text: str) -> None:
    """Text of the characters of a body is refused in the same words either way."""
    body = b'{"instances": ' + text.encode() + b"}"
    try:
        short = _outcome(body, TENSOR)
    except ValueError:  # the outcome parses the body again, which only a valid body allows
        short = ()
    with exactly():
        assert _outcome(body, TENSOR) == short


ROW = [[0.1, 1], [2, 3.5]]


def _read(body: bytes, schema: InputSchema = TENSOR) -> Any:
    return read_numbers(body, frame_of(body), schema, 5)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("indent", [None, 1])
def test_bodies_of_rows_alone_are_read_at_once(n: int, indent: int | None) -> None:
    """A body of full rows and nothing else is read without a Python object for each number."""
    rows = np.random.default_rng(n).normal(size=(n, 2, 2))
    body = json.dumps({"instances": rows.tolist()}, indent=indent).encode()
    np.testing.assert_array_equal(_read(body), rows.astype(np.float32))


def test_a_long_body_is_read_with_a_parser_of_its_own() -> None:
    """A parser keeps memory for its longest body, so the parser that is kept never reads a long one."""
    schema = InputSchema(kind="tensor", shape=(20000,))
    rows = np.random.default_rng(1).normal(size=(2, 20000))
    body = json.dumps({"instances": rows.tolist()}).encode()
    with patch("service.front.protocols.plain_numbers.PARSERS"):  # the parser that is kept cannot read here
        np.testing.assert_array_equal(_read(body, schema), rows.astype(np.float32))


@pytest.mark.parametrize(
    "body",
    [
        '{"instances": [[[1, 2, 3], [4]]]}',
        '{"instances": [[[1, [2]], [3, 4]]]}',
        '{"instances": [[1, 2, 3, 4]]}',
        '{"instances": [[[1, 2], [3]]]}',
        '{"instances": [[[1, 2], [3, ]]]}',
        '{"instances": [[[1, 2], [3, 4]]], "ids": ["a"]}',
        '{"instances": [[[1, 2], [3, "4"]]]}',
        '{"instances": [[[1, 2], [3, true]]]}',
        '{"instances": [[[1, 2], [3, null]]]}',
        '{"instances": [[[1, 2], [3, 1e400]]]}',
        '{"instances": [[[1, 2], [3, 1e39]]]}',
        '{"instances": [[[1, 2], [3, 01]]]}',
        '{"instances": [[[1, 2], [3, 4]]]} 5',
        '{"i nstances": [[[1, 2], [3, 4]]]}',
        '{"instanceses": [[[1, 2], [3, 4]]]}',
        '{"instances": []}',
        "",
    ],
)
def test_every_other_body_is_left_to_another_decoder(body: str) -> None:
    """A body with uneven lists, other values, other members or no JSON is not read at once."""
    assert _read(body.encode()) is None


@given(st.data())
def test_both_ways_agree_on_bodies_with_one_changed_byte(data: st.DataObject) -> None:
    """If any byte of a plain body is removed, doubled or replaced, both ways still give one outcome."""
    body = bytearray(b'{"instances": [[[0.5, -1e2], [2, 3.5]], [[0, 1], [1E+1, 0.25]]]}')
    place = data.draw(st.integers(0, len(body) - 1))
    body[place : place + 1] = data.draw(
        st.sampled_from([b"", bytes(body[place : place + 1]) * 2, b",", b"[", b"e", b"0"])
    )
    try:
        short = _outcome(bytes(body), TENSOR)
    except ValueError:
        short = ()
    with exactly():
        try:
            assert _outcome(bytes(body), TENSOR) == short
        except ValueError:
            assert short == ()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ids": ["a"]},
        {"groups": {"sex": ["f"]}},
        {"parameters": {"detail": True}},
        {"parameters": {"top_k": 2, "detail": False}, "ids": ["b"]},
    ],
)
def test_the_common_bodies_go_the_short_way(more: dict[str, Any]) -> None:
    """Ids, groups and parameters beside plain rows do not send the rows the longer way."""
    document = {"instances": [ROW], **more}
    found = stack_numbers(document["instances"], frame_of(json.dumps(document).encode()), document, TENSOR)
    assert found is not None
    assert found.dtype == np.float32
    assert found.tolist() == np.array([ROW], np.float32).tolist()


@pytest.mark.parametrize(
    "row",
    [
        [["1.5", 1], [2, 3]],
        [[True, 1], [2, 3]],
        [[None, 1], [2, 3]],
        [[1e39, 1], [2, 3]],
        [[1], [2, 3]],
        [*ROW, [1, 2]],
        {},
        7,
    ],
)
def test_anything_else_is_left_to_the_exact_way(row: object) -> None:
    """A string, a boolean, null, a number beyond float32, another shape: the short way takes none of them."""
    document = {"instances": [row]}
    body = json.dumps(document).encode()
    assert stack_numbers(document["instances"], frame_of(body), document, TENSOR) is None
