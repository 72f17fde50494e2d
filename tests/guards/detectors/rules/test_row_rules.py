"""Rules on rows: which rows break a rule, and which rules do not fit a table."""

import math

import pytest
import torch

from guards.detectors.rules.errors import RuleError
from guards.detectors.rules.row_rules import RowRules
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.testing.example import reloaded

NAN = math.nan
SIZES = ("large", "small")
COLUMNS = (
    Column(name="start", kind="numeric"),
    Column(name="end", kind="numeric"),
    Column(name="hours-per-week", kind="numeric"),
    Column(name="retired", kind="categorical", categories=("no", "yes")),
    Column(name="ordered", kind="categorical", categories=SIZES),
    Column(name="sent", kind="categorical", categories=SIZES),
)
SCHEMA = InputSchema(kind="tabular", shape=(6,), columns=COLUMNS)
ROWS = torch.tensor(
    [
        [1.0, 2.0, 40.0, 0.0, 0.0, 0.0],
        [3.0, 2.0, 130.0, 1.0, 0.0, 1.0],
        [NAN, 2.0, 130.0, NAN, -1.0, 0.0],
        [0.1, 0.3, 0.0, -1.0, -1.0, -1.0],
    ]
)


def broken(rule: str) -> list[bool]:
    """Which of the rows break a rule."""
    return RowRules([rule]).fit(SCHEMA).broken(ROWS)[:, 0].tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("end >= start", [False, True, False, False]),
        ("not end >= start", [True, False, False, True]),
        ("`hours-per-week` < 120 or retired == 'yes'", [False, False, False, False]),
        ("`hours-per-week` < 120 and retired == 'no'", [False, True, True, True]),
        ("retired == 'yes'", [True, False, False, True]),
        ("retired != 'yes'", [False, True, False, False]),
        ("retired in ['no', 'yes']", [False, False, False, True]),
        ("retired not in ['no']", [True, False, False, False]),
        ("start in [1, -3, 0.1]", [False, True, False, False]),
        ("start is missing", [True, True, False, True]),
        ("retired is not missing", [False, False, True, False]),
        ("ordered == sent", [False, True, True, False]),
        ("ordered != sent", [True, False, False, False]),
        ("end - start == 0.2", [True, True, False, False]),
        ("start * 3 == end", [True, True, False, False]),
        ("-start < 0 < end", [False, False, False, False]),
        ("end / `hours-per-week` > 0.03", [False, True, True, False]),
    ],
)
def test_rules_by_hand(rule: str, expected: list[bool]) -> None:
    """A rule is broken if its condition is surely false; a missing value, or a division by zero, decides nothing."""
    assert broken(rule) == expected


def test_a_missing_operand_does_not_hide_what_is_surely_false() -> None:
    """`false and unknown` is false, and `true or unknown` is true, as in SQL."""
    assert broken("start > 0 and end > 100")[2]
    assert not broken("start > 0 or end == 2")[2]


def test_numbers_that_float32_cannot_tell_apart_are_equal() -> None:
    """A whole number is compared exactly, and 0.1, which float32 rounds, is the 0.1 of the rule."""
    rows = torch.zeros(2, 6)
    rows[:, 0] = torch.tensor([0.1, 0.1000001])
    rows[:, 1] = torch.tensor([16777215.0, 16777214.0])
    rules = RowRules(["start == 0.1", "start <= 0.1", "end == 16777215"]).fit(SCHEMA)
    assert rules.broken(rows).tolist() == [[False, False, False], [True, True, True]]


def test_rules_survive_a_bundle() -> None:
    """Rules restored from their buffers find the same rows, without the schema."""
    texts = ["end >= start", "retired == 'yes' or ordered == sent"]
    fitted = RowRules(texts).fit(SCHEMA)
    assert torch.equal(reloaded(RowRules(texts), fitted).broken(ROWS), fitted.broken(ROWS))
    assert fitted.names == ("rule end >= start", "rule retired == 'yes' or ordered == sent")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("end > begin", "character 7: there is no column 'begin': the columns are start, end, hours-per-week"),
        ("strat > 1", "there is no column 'strat': did you mean `start`? The columns are start, "),
        ("hours-per-week < 3", "between backticks, such as `hours-per-week`"),
        ("retired > 'no'", "categories have no order"),
        ("retired == 'maybe'", "column 'retired' has no category 'maybe'; it has 'no', 'yes'"),
        ("end == 'x'", "column 'end' is numeric: compare it with a number, without quotes"),
        ("retired == 1", "a number is compared with a category"),
        ("retired + 1 > 2", "a categorical column is no number"),
        ("end + 'x' > 2", "a text is no number"),
        ("'no' == 'no' or end > 1", "a text is compared with a column"),
        ("retired == ordered", "the two columns have different categories"),
    ],
)
def test_a_rule_that_does_not_fit_the_table_is_refused(rule: str, problem: str) -> None:
    """The error names the place, what the table has, and the way out."""
    with pytest.raises(RuleError) as refused:
        RowRules([rule]).fit(SCHEMA)
    assert problem in str(refused.value)
