"""A rule means what the same expression means in Python, and any other text is refused with one sentence."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from guards.detectors.rules.errors import RuleError
from guards.detectors.rules.grammar import parse_rule
from guards.detectors.rules.row_rules import RowRules
from guards.input.column import Column
from guards.input.schema import InputSchema

NAMES = ("a", "b", "c")
LEVELS = ("low", "high")
SCHEMA = InputSchema(
    kind="tabular",
    shape=(4,),
    columns=(
        *(Column(name=name, kind="numeric") for name in NAMES),
        Column(name="level", kind="categorical", categories=LEVELS),
    ),
)
NUMBERS = st.integers(-8, 8).map(lambda whole: whole / 2)
"""Halves: float32 and float64 compute with them exactly, but for quotients."""


def composed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Sums, differences and products of values, in parentheses or not."""
    signs = st.sampled_from(["+", "-", "*"])
    return st.one_of(
        st.tuples(values, signs, values).map(" ".join),
        st.tuples(values, signs, values).map(lambda parts: f"({' '.join(parts)})"),
        values.map(lambda value: f"-({value})"),
    )


VALUES = st.recursive(
    st.one_of(st.sampled_from(NAMES), NUMBERS.map(lambda number: repr(abs(number)))), composed, max_leaves=6
)
COMPARISONS = st.lists(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), min_size=1, max_size=2).flatmap(
    lambda signs: st.tuples(VALUES, *(VALUES.map(lambda value, sign=sign: f"{sign} {value}") for sign in signs)).map(
        " ".join
    )
)
TESTS = st.one_of(
    COMPARISONS,
    st.tuples(st.sampled_from(["level"]), st.sampled_from(["==", "!="]), st.sampled_from(["'low'", '"high"'])).map(
        " ".join
    ),
    st.tuples(VALUES, st.sampled_from(["in", "not in"]), st.lists(NUMBERS, min_size=1, max_size=3).map(repr)).map(
        " ".join
    ),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map(lambda condition: f"not ({condition})"),
    ),
    max_leaves=5,
)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(LEVELS)), min_size=1, max_size=5)


@given(CONDITIONS.filter(lambda rule: any(name in rule for name in (*NAMES, "level"))), ROWS)
def test_a_rule_is_broken_where_python_says_false(rule: str, rows: list[tuple[float, float, float, str]]) -> None:
    """On rows without missing values, a rule is broken exactly if Python evaluates the expression to false."""
    x = torch.tensor([[*numbers, LEVELS.index(level)] for *numbers, level in rows])
    try:
        rules = RowRules([rule]).fit(SCHEMA)
    except RuleError as refused:
        assert "names no column" in str(refused)  # noqa: PT017 - the rest of the rule has `low`, and no name
        return
    expected = [not eval(rule, {}, dict(zip((*NAMES, "level"), row, strict=True))) for row in rows]  # noqa: S307
    assert rules.broken(x)[:, 0].tolist() == expected


@given(CONDITIONS, ROWS, st.integers(0, 2))
def test_a_missing_value_breaks_no_more_than_any_value_would(
    rule: str, rows: list[tuple[float, float, float, str]], place: int
) -> None:
    """If a rule is broken although a value is missing, the rule is broken whatever the value is."""
    try:
        rules = RowRules([rule]).fit(SCHEMA)
    except RuleError:
        return
    x = torch.tensor([[*numbers, LEVELS.index(level)] for *numbers, level in rows])
    hidden = x.clone()
    hidden[:, place] = math.nan
    assert not (rules.broken(hidden) & ~rules.broken(x)).any()


@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                [
                    "a",
                    "level",
                    "(",
                    ")",
                    "and",
                    "not",
                    "in",
                    "[",
                    "]",
                    "is",
                    "missing",
                    "-",
                    "1",
                    "<",
                    "'low'",
                    ",",
                    "*",
                ]
            ),
            max_size=30,
        ).map(" ".join),
    )
)
def test_any_text_is_a_rule_or_is_refused_with_a_sentence(text: str) -> None:
    """Reading a text, and fitting it to a table, raises nothing but the error that names the place."""
    try:
        parse_rule(text)
        RowRules([text]).fit(SCHEMA).broken(torch.zeros(2, 4))
    except RuleError as refused:
        assert "character" in str(refused)  # noqa: PT017 - any other exception fails the test
