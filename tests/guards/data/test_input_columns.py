"""Which columns of a file are inputs: the columns that the config lists, and the other columns."""

import re
from typing import Any

import pytest
from example_tables import fields, numbers, spec, table, typed, understood

from guards import Mistake
from guards.data.input_columns import readings
from guards.data.table import Table

NUMERIC = {"kind": "numeric"}


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def made() -> Table:
    return table(
        id=numbers(5, 2, 9), age=fields("1", "NA", "3"), code=fields("b", "a", "b"), y=fields("u", "v", "u"),
        group_sex=fields("f", "m", "f"), group_size=numbers(1, 2, 3),
    )  # fmt: skip


def test_all_columns_but_label_and_groups_are_inputs() -> None:
    """Without a list every column is an input in the file's order, but the label and the groups, which a note names."""
    schema, notices = understood(spec(), made())
    assert schema.names == ("id", "age", "code")
    (note,) = notices.notes
    assert note.startswith('columns ["group_sex", "group_size"] hold groups of the rows, since their names begin with')


def test_a_list_overrides_single_columns() -> None:
    """Listed columns are as declared, in the file's order, the rest is inferred, and what is left out is noted."""
    given = spec(
        {"name": "group_size", "scale": 0.5},
        {"name": "age", "missing": ["NA"]},
        {"name": "id", "drop": True},
        rest="infer",
    )
    schema, notices = understood(given, made())
    assert schema.names == ("age", "code", "group_size")
    age, code, size = schema.columns
    assert (age.kind, age.fill, code.categories, size.kind, size.scale) == ("numeric", 2, ("a", "b"), "numeric", 0.5)
    assert notices.warnings == []
    assert 'column ["id"] of the reference is not an input of the model' in notices.notes


def test_a_list_of_all_columns_is_their_order() -> None:
    """A list that names every column gives their order; so does one that drops the rest."""
    columns = [{"name": name} for name in ("code", "age", "id")]
    assert understood(spec(*columns), made())[0].names == ("code", "age", "id")
    assert understood(spec(*columns[:2], rest="drop"), made())[0].names == ("code", "age")
    assert understood(spec(columns[0], {"name": "id", "drop": True}, columns[1]), made())[0].names == ("code", "age")


def test_a_list_of_some_columns_has_two_readings() -> None:
    """If the config does not say what the rest is, there is a reading with the rest and one without."""
    assert [reading.sure().names for reading in readings(spec({"name": "code"}), made(), label="y")] == [
        ("id", "age", "code"),
        ("code",),
    ]
    for given in (spec(), spec({"name": "id", "drop": True}), spec({"name": "code"}, rest="infer")):
        assert len(readings(given, made(), label="y")) == 1
    broken = Table(made().path, {**made().columns, "z": typed("nested", [1], [2], [3])})
    first, second = readings(spec({"name": "code"}), broken, label="y")
    assert second.sure().names == ("code",)
    with refused("column 'z' holds lists"):
        first.sure()


def test_a_declared_column_is_the_same_after_a_round() -> None:
    """A list of columns, dropped ones too, can be written out with all its defaults and read again."""
    given = spec({"name": "id", "drop": True}, {"name": "age", "missing": ["NA"], "scale": 2.0}, rest="infer")
    assert type(given).model_validate(given.model_dump(mode="json")) == given


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ([{"name": "b", **NUMERIC}, {"name": "c"}], "input.columns: no column 'b' in the reference; there are ['age',"),
        ([{"name": "Age"}], "input.columns: no column 'Age' in the reference; there is 'age', which differs only in"),
        ([{"name": "y"}], "input.columns: 'y' is the label (reference.label) and cannot be an input"),
        ([{"name": name, "drop": True} for name in ("id", "age", "code")], "the reference has no column but the label"),
    ],
)
def test_lists_that_do_not_fit(columns: list[dict[str, Any]], sentence: str) -> None:
    """A listed column that is not there, or is the label, is refused; and so is a list that leaves no input."""
    with refused(sentence):
        understood(spec(*columns), made())


def test_an_input_that_is_the_label_is_warned_of() -> None:
    """A column that is equal to the label in every row is warned of, unless both are constant."""
    labels = ("u", "v", "u", "v")
    (warning,) = understood(spec(), table(a=fields(*labels), y=fields(*labels)))[1].warnings
    assert warning.startswith("column 'a' is equal to the label 'y' in every row: give the column `drop: true`")
    for values, y in (((*labels[:3], "u"), labels), (("u",) * 4, ("u",) * 4)):
        assert understood(spec(), table(a=fields(*values), y=fields(*y)))[1].warnings == []
