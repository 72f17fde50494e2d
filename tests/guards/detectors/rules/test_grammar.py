"""Reading rules: what is a rule, and what an error says about a text that is none."""

import pytest

from guards.detectors.rules.errors import RuleError
from guards.detectors.rules.expressions import Arithmetic, Column, Comparison, Joined, Not, Number
from guards.detectors.rules.grammar import parse_rule


def test_signs_bind_as_in_arithmetic() -> None:
    """A product binds closer than a sum, a sum closer than a comparison, `and` closer than `or`."""
    rule = parse_rule("a + 2 * b < c or not d == 1 and e > 2")
    assert isinstance(rule, Joined)
    assert rule.word == "or"
    first, second = rule.operands
    assert isinstance(first, Comparison)
    assert isinstance(first.left, Arithmetic)
    assert first.left.sign == "+"
    assert isinstance(first.left.right, Arithmetic)
    assert first.left.right.sign == "*"
    assert isinstance(second, Joined)
    assert second.word == "and"
    assert isinstance(second.operands[0], Not)


def test_differences_and_quotients_are_taken_from_the_left() -> None:
    """The rule a - b - 1 means (a - b) - 1."""
    rule = parse_rule("a - b - 1 > 0")
    assert isinstance(rule, Comparison)
    assert isinstance(rule.left, Arithmetic)
    assert isinstance(rule.left.right, Number)


def test_a_chain_compares_neighbours() -> None:
    """0 <= a < b means 0 <= a and a < b."""
    rule = parse_rule("0 <= a < b")
    assert isinstance(rule, Joined)
    assert rule.word == "and"
    assert [each.sign for each in rule.operands if isinstance(each, Comparison)] == ["<=", "<"]


def test_backticks_hold_any_name() -> None:
    """A name between backticks may have spaces and signs, and may be a word of the language."""
    rule = parse_rule("`hours-per-week` > `in`")
    assert isinstance(rule, Comparison)
    assert isinstance(rule.left, Column)
    assert isinstance(rule.right, Column)
    assert (rule.left.name, rule.right.name) == ("hours-per-week", "in")


@pytest.mark.parametrize(
    ("rule", "character", "problem"),
    [
        ("end >=", 7, "the rule ends where a column, a number or a text in quotes is expected"),
        ("end = 3", 5, "two values are compared with `==`"),
        ("end & start", 5, "write `and`"),
        ("end | start", 5, "write `or`"),
        ("end == 'open", 8, "the text has no closing quote"),
        ("end == `open", 8, "the name has no closing backtick"),
        ("end", 1, "a condition is expected here"),
        ("start < 3 and end", 15, "a condition is expected here"),
        ("(start < 3) + 1 > 2", 8, "a number or a column is expected here, and this is a condition"),
        ("start < 3)", 10, "join conditions with `and` or `or`"),
        ("(start < 3", 11, "expected `)`"),
        ("start in 3", 10, "`in` is followed by a list"),
        ("start in [3", 12, "expected `,` or `]`"),
        ("start not 3", 11, "`not` between two values needs `in`"),
        ("start is 3", 10, "`is` is followed by `missing` or `not missing`"),
        ("start + 1 is missing", 11, "only a column can be missing"),
        ("1 < 2", 1, "the rule names no column"),
        ("", 1, "the rule ends"),
        ("a < 1e999", 5, "too large"),
        ("a.b < 3", 2, "put a column's name with such a character between backticks"),
        ("__import__('os') < 3", 11, "a rule has no functions"),
        ("(" * 60 + "a < 1" + ")" * 60, 31, "nested too deeply"),
        ("-" * 60 + "a < 1", 31, "nested too deeply"),
        (" + ".join(["a"] * 200) + " < 1", 500, "at most 250 words and signs"),
    ],
)
def test_what_is_no_rule_is_refused(rule: str, character: int, problem: str) -> None:
    """The error names the rule, the character at which reading ended, and the way out."""
    with pytest.raises(RuleError) as refused:
        parse_rule(rule)
    message = str(refused.value)
    assert message.startswith(f"rule {rule[:60]!r}"[:40])
    assert problem in message
    assert f"character {character}:" in message
