"""The kind that each column of a file gets, and the warnings about columns of a doubtful kind."""

import json
import re
from typing import Any

import numpy as np
import pytest
from example_tables import fields, notes_of, numbers, spec, table, typed, understood, warnings_of

from guards import Mistake
from guards.data.table import TableColumn

NAN = np.nan
PLAIN = ("12", "7.5", "-3", "1e3", ".5", "0", "-0.25")


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def kind_of(column: TableColumn, **keys: Any) -> str | None:
    return understood(spec({"name": "a", **keys}), table(a=column))[0].columns[0].kind


def categories_of(column: TableColumn, **keys: Any) -> tuple[str, ...] | None:
    return understood(spec({"name": "a", **keys}), table(a=column))[0].columns[0].categories


def test_fields_that_are_all_numbers_are_numeric() -> None:
    """A CSV's column is numeric if every field is a decimal number or empty, with spaces around them or not."""
    for values in (PLAIN, (*PLAIN, None), (" 1", "2 "), ("1",)):
        assert kind_of(fields(*values)) == "numeric"
        assert warnings_of(fields(*values)) == []


@pytest.mark.parametrize(
    ("odd", "looks", "advice"),
    [
        ("2024-01-31", "dates or times", "days since a fixed date"),
        ("31.12.2024", "dates or times", "days since a fixed date"),
        ("3 Jan 2024 10:30 PM", "dates or times", "days since a fixed date"),
        ("2024-01-31T10:30:00Z", "dates or times", "days since a fixed date"),
        ("10:30", "dates or times", "days since a fixed date"),
        ("$1,234.50", "amounts of money", "plain numbers into the file, such as 1234.5"),
        ("12 €", "amounts of money", "plain numbers into the file"),
        ("($5.00)", "amounts of money", "plain numbers into the file"),
        ("45%", "percentages", "without the sign %"),
        ("1,5", "numbers with decimal commas", "a point in place of the comma"),
        ("12,345.6", "numbers with separators of thousands", "without separators"),
        ("1.234.567", "numbers with separators of thousands", "without separators"),
        ("[1, 2]", "lists or JSON", "a column of its own"),
        ('{"a": 1}', "lists or JSON", "a column of its own"),
        ("0x1F", "numbers in the notation of a program", "plain decimal numbers"),
        ("inf", "numbers in the notation of a program", "plain decimal numbers"),
        ("1_000", "numbers in the notation of a program", "plain decimal numbers"),
    ],
)
@pytest.mark.parametrize("others", [(), (None,) * 20, ("1", "2", "3"), ("1", None, None, None)], ids=str)
def test_other_forms_of_numbers_are_named(odd: str, looks: str, advice: str, others: tuple[str | None, ...]) -> None:
    """Dates, money and other forms are categories with a warning of the form, the row and what to do."""
    column = fields(*others, odd)
    assert kind_of(column) == "categorical"
    (warning,) = warnings_of(column)
    assert warning.startswith("column 'a' is taken as categorical, since ")
    assert f"like {looks} (row {len(others)}: {odd!r})" in warning
    assert advice in warning
    assert "`drop: true`" in warning
    assert warnings_of(column, kind="categorical") == []


@pytest.mark.parametrize("mark", ["NA", "N/A", "nan", "null", "None", "\\N", "?", "-", ".", " ", "#N/A", "--"])
@pytest.mark.parametrize("share", [1, 8])
def test_marks_of_missing_values_are_offered(mark: str, share: int) -> None:
    """A column that a mark alone keeps from being numeric is warned of, and is numeric if the mark is declared."""
    column = fields("1", *[mark] * share, "2.5", None)
    (warning,) = warnings_of(column)
    assert warning.startswith(
        f"column 'a' would be numeric if [{json.dumps(mark)}] meant missing (row 1: {mark!r}; {share} rows"
    )
    assert f"add `missing: [{json.dumps(mark)}]`" in warning
    assert kind_of(column, missing=[mark]) == "numeric"
    assert warnings_of(column, missing=[mark]) == []


def test_marks_among_texts_are_noted() -> None:
    """Among texts, a marker of missing values may be a category: a note says so, and there is no warning."""
    column = fields("red", "None", "blue")
    assert warnings_of(column) == []
    assert notes_of(column)[0].startswith(
        "column 'a' takes [\"None\"] as a category (1 rows): to read such values as missing, add"
    )
    assert categories_of(column, missing=["None"]) == ("blue", "red")


def test_one_bad_value_among_numbers_is_named() -> None:
    """The row and the value that keep a column from being numeric are in the warning."""
    (warning,) = warnings_of(fields("1", "2", "l3", "4", None))
    assert "1 of its values is no number (row 2: 'l3'), while 3 are" in warning
    assert warnings_of(fields("1", "a", "b")) == []


def test_leading_zeros_are_text() -> None:
    """Digits behind a leading zero are a code: text, with a note; a declared number is read as one."""
    column = fields("00501", "10001", "00501")
    assert categories_of(column) == ("00501", "10001")
    assert warnings_of(column) == []
    assert "leading zero (row 0: '00501')" in notes_of(column)[0]
    schema, _ = understood(spec({"name": "a", "kind": "numeric"}), table(a=column))
    assert (schema.columns[0].kind, schema.columns[0].fill) == ("numeric", 501)


def test_numbers_with_units_are_named() -> None:
    """Numbers with a unit are named if there are many of them; two terms of months are categories."""
    column = fields(*(f"{weight}.5 kg" for weight in range(12)))
    assert "like numbers with units (row 0: '0.5 kg')" in warnings_of(column)[0]
    assert warnings_of(fields(*["36 months", "60 months"] * 20)) == []


@pytest.mark.parametrize("written", ["({})", "{}-", "\N{MINUS SIGN}{}", '="{}"', "'{}'", "<{}", "{}*", "~ {}.5"])
def test_numbers_with_signs_are_named(written: str) -> None:
    """Numbers with a sign that is no minus are named if there are many, and are categories if there are few."""
    odd = [written.format(number) for number in range(1, 16)]
    for others in ((), map(str, range(1, 16)), (None,) * 30):
        (warning,) = warnings_of(fields(*odd, *others))
        assert f"like numbers with signs beside them (row 0: {odd[0]!r})" in warning
        assert "write plain numbers into the file, such as -12.5" in warning
    assert warnings_of(fields(*odd[:3] * 20)) == []


@pytest.mark.parametrize("word", ["unknown", "<5", "*", "see note"])
def test_one_word_among_many_numbers_is_named(word: str) -> None:
    """A column of many numbers and a word is warned of, however many rows have the word; few codes are categories."""
    (warning,) = warnings_of(fields(*[word] * 60, *(str(number) for number in range(30))))
    assert f"60 of its values are no number (row 0: {word!r}), while 30 are" in warning
    assert warnings_of(fields(*[word] * 60, *["38", "40", "42"] * 5)) == []


def test_values_that_are_no_declared_category_are_said() -> None:
    """Values beside the declared categories are noted, and warned of if they are many."""
    declared = {"kind": "categorical", "categories": ["007", "010"]}
    assert notes_of(fields("007", "010"), **declared) == []
    rare = fields(*["007", "010"] * 10, "011", None)
    assert warnings_of(rare, **declared) == []
    assert (
        "1 of 21 values are none of its `categories` in input.columns (row 20: '011')" in notes_of(rare, **declared)[0]
    )
    (warning,) = warnings_of(fields("007", "010", "7"), **declared)
    assert "1 of 3 values are none of its `categories` in input.columns (row 2: '7')" in warning


def test_rows_that_break_a_declaration_are_said() -> None:
    """Rows of the reference that break a column's bounds are noted, and warned of if they are many."""
    column = numbers(*range(30), NAN)
    assert warnings_of(column, minimum=0, maximum=29, nullable=True) == []
    for keys, key, value in (
        ({"minimum": 1}, "minimum", "row 0: 0"),
        ({"maximum": 28.5}, "maximum", "row 29: 29"),
        ({"nullable": False}, "nullable: false", "row 30: missing"),
    ):
        assert warnings_of(column, **keys) == []
        assert f"1 of 31 rows of the reference break `{key}` in input.columns ({value})" in notes_of(column, **keys)[0]
    (warning,) = warnings_of(column, maximum=20)
    assert "9 of 31 rows of the reference break `maximum` in input.columns (row 21: 21)" in warning


def test_infinite_numbers_are_left_to_their_refusal() -> None:
    """A column with infinite numbers is looked at without them, since their row is refused with its number."""
    assert warnings_of(numbers(*range(1, 60), np.inf, -np.inf)) == []


def test_types_of_the_file_are_kept() -> None:
    """Text stays text though it is all digits, booleans are false and true, numbers are numbers."""
    assert categories_of(typed("text", "7", "8", None)) == ("7", "8")
    assert "text in the file" in notes_of(typed("text", "7", "8", None))[0]
    assert "leading zero (row 1: '07')" in notes_of(typed("text", "8", "07"))[0]
    assert categories_of(typed("boolean", True, None)) == ("False", "True")
    assert kind_of(numbers(1.0, NAN)) == "numeric"
    assert kind_of(TableColumn(np.array([2**60, 1]), "number")) == "numeric"


@pytest.mark.parametrize(
    ("values", "categories"),
    [
        (("true", "false"), ("false", "true")),
        (("True", "False", None), ("False", "True")),
        (("TRUE", "TRUE"), ("FALSE", "TRUE")),
        (("True", "false"), ("false", "true")),
    ],
)
def test_true_and_false_are_two_categories(values: tuple[str, ...], categories: tuple[str, ...]) -> None:
    """A column of true and false has both, false first, whichever of them occur and however they are written."""
    assert categories_of(fields(*values)) == categories
    assert warnings_of(fields(*values)) == []


def test_booleans_declared_numeric_are_0_and_1() -> None:
    """A column of booleans that is declared numeric is 0 and 1."""
    for column in (typed("boolean", True, False, True), fields("true", "false", "True")):
        schema, _ = understood(spec({"name": "a", "kind": "numeric"}), table(a=column))
        assert schema.columns[0].fill == 1


def test_dates_of_the_file_are_warned_of() -> None:
    """A column of dates is categorical with a warning, unless it is declared so."""
    column = typed("date", "2024-01-31", "2024-02-01")
    (warning,) = warnings_of(column)
    assert warning.startswith("column 'a' holds dates or times (row 0: '2024-01-31')")
    assert warnings_of(column, kind="categorical") == []
    (warning,) = warnings_of(numbers(20240131, 20240201, 20231224))
    assert "looks like dates that are written as numbers (20240131)" in warning


def test_nested_values_are_refused_unless_dropped() -> None:
    """A column without one value in each row is refused, and may be dropped."""
    made = table(a=typed("nested", [1], [2]), b=numbers(1.0, 2.0))
    with refused("column 'a' holds lists, structures or bytes"):
        understood(spec(), made)
    assert understood(spec({"name": "a", "drop": True}), made)[0].names == ("b",)


def test_a_column_without_values_waits_for_its_kind() -> None:
    """No value tells no kind: it is asked for; a type of the file or a declared kind is enough, with a warning."""
    with refused("column 'a' has no value in any row: declare its `kind` in input.columns"):
        understood(spec(), table(a=fields(None, None)))
    assert kind_of(fields(None, None), kind="numeric") == "numeric"
    assert categories_of(fields(None, None), kind="categorical") == ("",)
    assert "has no value in any row" in warnings_of(numbers(NAN, NAN))[0]
    assert "has no value in any row" in warnings_of(fields(None, None), kind="numeric")[0]


def test_every_faulty_column_is_told_at_once() -> None:
    """Mistakes of several columns are several sentences."""
    made = table(a=fields(None), b=typed("nested", [1]), c=fields("x"), d=fields("1"))
    with pytest.raises(Mistake) as told:
        understood(spec({"name": "c", "kind": "numeric"}), made)
    assert [sentence.split(" ")[1].strip("',") for sentence in told.value.sentences] == ["a", "b", "c"]


def test_identifiers_and_free_text_are_warned_of() -> None:
    """Almost as many texts as rows, or more than a thousand, are no categories; a hundred rows of four are."""
    assert "60 different texts in 60 rows" in warnings_of(fields(*(f"id-{i}" for i in range(60))))[0]
    assert "1001 different texts in 3003 rows" in warnings_of(fields(*(f"id-{i % 1001}" for i in range(3003))))[0]
    for values in ([f"id-{i}" for i in range(30)], [f"id-{i % 4}" for i in range(100)]):
        assert warnings_of(fields(*values)) == []
    assert warnings_of(fields(*(f"id-{i}" for i in range(60))), kind="categorical") == []


def test_whole_numbers_that_float32_merges_are_warned_of() -> None:
    """Identifiers that become one number in float32 are warned of, also if float64 merges them; measures are not."""
    ids = 10**9 + np.arange(100)
    for column in (TableColumn(ids, "number"), fields(*map(str, ids)), TableColumn(2**60 + np.arange(100), "number")):
        assert "float32 cannot tell" in warnings_of(column)[0]
    assert warnings_of(TableColumn(np.arange(100) * 10**6, "number")) == []
    assert warnings_of(TableColumn(np.arange(100) * 1e9 + 0.5, "number")) == []


@pytest.mark.parametrize(
    ("column", "note"),
    [
        (numbers(3.0, 3.0, NAN), 'column ["a"] has one value in all rows'),
        (fields("x", None, "x"), 'column ["a"] has one value in all rows'),
        (numbers(-999, 1, 2, -999), "column 'a' holds -999 in 2 rows, and nothing else below 1"),
        (TableColumn(np.arange(1, 61), "number"), "column 'a' counts the rows"),
    ],
)
def test_odd_numbers_are_noted(column: TableColumn, note: str) -> None:
    """Constants, marks such as -999 and counters may be meant so: notes, and no warnings."""
    assert any(sentence.startswith(note) for sentence in notes_of(column))
    assert warnings_of(column) == []
    schema, _ = understood(spec({"name": "a", "missing": ["-999"]}), table(a=numbers(-999, 1, 2, -999)))
    assert schema.columns[0].fill == 1.5


def test_categories_that_look_alike_are_warned_of() -> None:
    """Categories that differ in capitals or spaces only, or have spaces around them, are warned of."""
    assert "'Male' and 'male' differ only in how they are written" in warnings_of(fields("Male", "male", "f"))[0]
    assert "the category ' a' has spaces around it" in warnings_of(fields(" a", "b"))[0]


def test_a_doubtful_order_of_categories_is_warned_of() -> None:
    """Categories are sorted as texts; if the file or the numbers have another order, a warning shows both."""
    (warning,) = warnings_of(typed("category", "low", "high", categories=("low", "high")))
    assert 'sorted as texts, ["high", "low"]; the file lists them in the order ["low", "high"]' in warning
    assert warnings_of(typed("category", "a", "b", categories=("a", "b", "c"))) == []
    assert len(warnings_of(typed("category", "a", "c", categories=("a", "b", "c")))) == 1
    assert 'sorted by their value, they are ["9", "10"]' in warnings_of(numbers(9, 10), kind="categorical")[0]
    assert warnings_of(numbers(8, 9), kind="categorical") == []
    assert warnings_of(numbers(9, 10), categories=["9", "10"]) == []
    assert 'by their meaning, they are ["low", "medium", "high"]' in notes_of(fields("low", "high", "medium"))[0]


def test_long_integers_keep_their_digits_as_categories() -> None:
    """Integers beyond 2**53 are categories with all their digits."""
    column = TableColumn(np.array([2**60, 2**60 + 1]), "number")
    assert categories_of(column, kind="categorical") == (str(2**60), str(2**60 + 1))


def test_the_most_frequent_category_fills_gaps() -> None:
    """The most frequent category stands in for a missing value, the first by name of several; the median of numbers."""
    made = table(a=fields("b", "a", "b", None), b=fields("b", "a"), c=numbers(1, 5, 3))
    schema, _ = understood(spec(), made)
    assert [column.fill for column in schema.columns] == [1, 0, 3]
    declared = {"name": "a", "categories": ["z", "b", "a"]}
    assert understood(spec(declared), table(a=made.columns["a"]))[0].columns[0].fill == 1


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (
            fields("1", "x"),
            "column 'a', row 1: 'x' is no number; if the value means missing, add the value to the column's",
        ),
        (fields("1", "inf"), "column 'a', row 1: 'inf' is no number"),
        (
            fields("1", "1,5", "2,5"),
            "row 1: '1,5' is no number, and 1 more row has no number (the value looks like numbers with decimal",
        ),
    ],
)
def test_declared_numbers_that_are_none(column: TableColumn, sentence: str) -> None:
    """A declared number that is none is refused with its row, its form, and what to do."""
    with refused(sentence):
        understood(spec({"name": "a", "kind": "numeric"}), table(a=column))
