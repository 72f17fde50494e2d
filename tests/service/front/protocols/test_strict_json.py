"""Strict JSON: agrees with the standard library on what is valid, and refuses everything else with a sentence."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.front.memory_room import TREES
from service.front.protocols.problem import Problem
from service.front.protocols.strict_json import loads, parsed

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.sampled_from([":", '":', "a:b", "\\", '"', "\u2028", "\0", "😀"])
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5), max_leaves=25
)
fragments = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ":", ",", '"', '"a"', '"b"', '"a":', "1", "-0", "1.5", "1e5", "1e999", "01", "true",
         "null", "NaN", "-Infinity", "\\u0061", '"\\u0061"', '"\\ud800"', '"é"', " ", "\n", "\ufeff", "9" * 30]
    ),
    max_size=20,
).map("".join)  # fmt: skip


def near(value: Any) -> Any:
    """Read integers beyond 64 bits as the floats that they become."""
    if isinstance(value, dict):
        return {key: near(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [near(inner) for inner in value]
    return float(value) if type(value) is int and abs(value) > 10**17 else value


@given(documents, st.booleans(), st.sampled_from([None, 1]))
@example({"a": {"b": [{"c": 1}]}}, True, None)
@example({"": {"": {"": ":"}}}, True, None)
def test_agrees_with_the_standard_library(document: Any, ascii_only: bool, indent: int | None) -> None:
    """A valid document without duplicates parses to what json.loads gives, with types."""
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    parsed = loads(body)
    assert repr(near(parsed)) == repr(near(json.loads(body)))


@st.composite
def with_duplicate(draw: st.DrawFn) -> bytes:
    """Write a document in which some object has some key twice, spelt alike or not."""
    key = draw(text)
    spellings = [json.dumps(key, ensure_ascii=False), json.dumps(key)]
    if key:
        spellings.append('"' + "".join(f"\\u{unit:04x}" for unit in _utf16(key)) + '"')
    values = [json.dumps(draw(documents)) for _ in range(2)]
    members = [f"{draw(st.sampled_from(spellings))}:{value}" for value in values]
    others = draw(st.dictionaries(text, documents, max_size=3))
    members += [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in others.items()]
    inner = "{" + ",".join(draw(st.permutations(members))) + "}"
    for wrap in draw(st.lists(st.sampled_from(["[%s]", '{"k":%s}', '[1,":",%s]', '{"a":[{"b":%s}],"c":":"}']))):
        inner = wrap.replace("%s", inner)
    return inner.encode()


def _utf16(key: str) -> list[int]:
    raw = key.encode("utf-16-be")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


@given(with_duplicate())
def test_a_key_twice_is_refused_anywhere(body: bytes) -> None:
    """However deep, and however the key is spelt: 400."""
    with pytest.raises(Problem) as refused:
        loads(body)
    assert refused.value.status == 400
    assert "twice" in refused.value.detail


@given(st.binary(max_size=60) | fragments.map(str.encode))
def test_bytes_of_any_kind_parse_or_are_a_problem(body: bytes) -> None:
    """Any bytes give a document, or a 400 whose sentence can be sent."""
    _parses_or_is_refused(body)


@given(documents, st.integers(0, 2**32), st.binary(min_size=1, max_size=2))
def test_damaged_documents_parse_or_are_a_problem(document: Any, place: int, damage: bytes) -> None:
    """A valid document with some bytes replaced is parsed or refused, and never more."""
    body = json.dumps(document).encode()
    cut = place % (len(body) + 1)
    _parses_or_is_refused(body[:cut] + damage + body[cut + 1 :])
    _parses_or_is_refused(body[:cut])


def _parses_or_is_refused(body: bytes) -> None:
    try:
        document = loads(body)
    except Problem as refused:
        problem = refused
    else:
        assert repr(near(document)) == repr(near(json.loads(body)))
        return
    assert problem.status == 400
    assert json.loads(problem.body("id"))["detail"]


@pytest.mark.parametrize("spelt", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400])
def test_numbers_beyond_come_back_for_the_decoder(spelt: str) -> None:
    """A number that is no JSON or no float64 is parsed, so that the decoder can refuse it with its place."""
    (number,) = loads(f'{{"x": [{spelt}]}}'.encode())["x"]
    assert not math.isfinite(number)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" * 5000 + b"]" * 5000, b'{"a":' * 5000 + b"1" + b"}" * 5000])
def test_deep_nesting_is_refused(body: bytes) -> None:
    """Nesting beyond any sane request is a 400, and no crash."""
    with pytest.raises(Problem) as refused:
        loads(body)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"\xff", "UTF-8"),
        (b'"\xc3\xa9\xff"', "byte 3"),
        (b'["\\ud800"]', "surrogate"),
        ('["é", }'.encode(), "character 6"),
        (b'{"a": 1, "a": 2}', "'a'"),
    ],
)
def test_refusals_say_what_and_where(body: bytes, word: str) -> None:
    """A refusal names the fault, and its place if there is one."""
    with pytest.raises(Problem, match=word):
        loads(body)


def test_too_many_values_are_refused_without_reading_them() -> None:
    """A text whose document would take more memory than all requests may is 413; if it is nested too deep, 400."""
    for unit, status in ((b"{},", 413), (b"[],", 413), (b'{"":{}},', 413), (b"[", 400), (b'{"a":', 400)):
        body = b"[" + unit * ((16 << 20) // len(unit)) + b"1]"
        with pytest.raises(Problem) as refused, parsed(body):
            raise AssertionError
        assert refused.value.status == status


def test_the_largest_bodies_of_numbers_are_read() -> None:
    """Sixteen megabytes of numbers are within the bound, whatever their lengths; the memory counts until the end."""
    for number in (b"1,", b"255,", b"0.5,", b"0.123456,"):
        body = b"[" + number * ((16 << 20) // len(number) - 1) + b"1]"
        with parsed(body) as document:
            assert document[-1] == 1
            assert TREES.lent > len(body)
    assert TREES.lent == 0
