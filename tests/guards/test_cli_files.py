"""Files to rows: CSV, Parquet and .npz, and the sentence for everything that is wrong with one."""

import gzip
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import toys

from guards import Mistake
from guards.config import parse
from guards.data.inputs import resolve_schema
from guards.data.labels import class_names
from guards.data.rows import load_rows, rows_from_table
from guards.data.table import as_texts
from guards.schema import InputSpec

NAN = math.nan
TABLE = parse(toys.document("tabular", reference={"path": "train.csv", "missing": ["?"]}))


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def spec(*columns: dict[str, Any], kind: str = "tabular") -> InputSpec:
    return InputSpec.model_validate({"kind": kind, "columns": columns})


def numeric(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "kind": "numeric", **keys}


def categorical(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "kind": "categorical", **keys}


# ---- tables


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_the_same_rows_from_every_kind_of_table(tmp_path: Path, suffix: str) -> None:
    """CSV, gzipped CSV and Parquet give the same rows, labels and groups."""
    made = toys.rows("tabular", 50)
    toys.write_csv(tmp_path / "t.csv", made)
    if suffix == ".csv.gz":
        (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    if suffix == ".parquet":
        frame = pd.read_csv(tmp_path / "t.csv")
        frame.astype({"colour": "category"}).to_parquet(tmp_path / "t.parquet")
    config = parse(toys.document("tabular"))
    rows = load_rows(tmp_path / f"t{suffix}", config, toys.schema(), toys.CLASSES)
    assert np.allclose(rows.x.numpy(), made.x.numpy(), equal_nan=True)
    assert rows.y is not None
    assert made.y is not None
    assert rows.y.tolist() == made.y.tolist()
    assert rows.groups == made.groups


def objects(*values: object) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_schema_is_inferred() -> None:
    """Undeclared columns are numeric where every value is a number, else categorical with sorted categories."""
    table = {
        "age": objects("1", "2", None, "10"),
        "code": objects("b", "a", "b", None),
        "size": np.array([1.0, NAN, 2.0, 3.0]),
        "y": objects("u", "v", "u", "v"),
        "group_sex": objects("f", "m", "f", "m"),
    }
    schema, warnings = resolve_schema(spec(), table, label="y")
    assert warnings == []
    assert schema.names == ("age", "code", "size")
    assert [column.kind for column in schema.columns] == ["numeric", "categorical", "numeric"]
    assert schema.columns[1].categories == ("a", "b")
    assert not schema.columns[1].categories_declared
    assert [column.fill for column in schema.columns] == [2.0, 1.0, 2.0]


def test_declared_schema_is_completed() -> None:
    """Declared columns keep what is declared, and get what stands in for a missing value."""
    table = {"a": objects("4", "6", None), "b": objects("y", "y", "z"), "c": objects("q", None, None)}
    columns = (
        numeric("a", minimum=0, nullable=False),
        categorical("b", categories=["z", "y", "x"]),
        categorical("c", impute="none"),
    )
    schema, _ = resolve_schema(spec(*columns), table, label="y")
    a, b, c = schema.columns
    assert (a.minimum, a.nullable, a.fill) == (0, False, 5)
    assert (b.categories, b.categories_declared, b.fill) == (("z", "y", "x"), True, 1)
    assert (c.categories, c.categories_declared, c.impute) == (("q",), False, "none")


def test_column_that_never_has_a_value() -> None:
    """A column without any value is numeric with fill 0 where declared so, else a category without a name."""
    schema, _ = resolve_schema(spec(numeric("a")), {"a": objects(None, None)}, label="y")
    assert schema.columns[0].fill == 0
    schema, warnings = resolve_schema(spec(), {"a": objects(None, None), "y": objects("u", "v")}, label="y")
    assert schema.columns[0].categories == ("",)
    assert warnings == []


def test_mostly_numeric_column_is_warned_of() -> None:
    """A column that looks like numbers but is not all of them is taken as categorical, with a warning."""
    table = {"a": objects("1", "2", "3", "n/a"), "y": objects(*"uvuv")}
    schema, (warning,) = resolve_schema(spec(), table, label="y")
    assert schema.columns[0].kind == "categorical"
    assert warning.startswith("column 'a' is taken as categorical because of values such as 'n/a'; if they mean")


def test_schema_of_other_kinds() -> None:
    """Images and tensors have their declared shape."""
    given = InputSpec.model_validate({"kind": "tensor", "shape": [2, 3]})
    schema, warnings = resolve_schema(given, {}, label="y")
    assert (schema.shape, warnings) == ((2, 3), [])


@pytest.mark.parametrize(
    ("columns", "table", "sentence"),
    [
        ((), {"a": objects("1")}, "reference.label: no column 'y' in the reference; there are ['a']"),
        ((), {"y": objects("1"), "group_a": objects("1")}, "input.columns: the reference has no column but the label"),
        ((numeric("b"),), {"a": objects("1")}, "input.columns: no column 'b' in the reference; there are ['a']"),
        (
            (numeric("a"),),
            {"a": objects("1", "x")},
            "column 'a', row 1: 'x' is no number; if it means missing, add it to reference.missing",
        ),
        ((numeric("a"),), {"a": objects("1", "inf")}, "column 'a', row 1: 'inf' is no number"),
    ],
)
def test_schema_that_does_not_fit_the_table(columns: Any, table: Any, sentence: str) -> None:
    """A column that is not there, or not of its kind, is refused with what is there."""
    with refused(sentence):
        resolve_schema(spec(*columns), table, label="y")


def test_texts_of_numbers() -> None:
    """Numbers are named by their shortest digits, as a CSV would have them."""
    assert as_texts(np.array([0.0, 1.0, 0.1, -2.5, NAN, 1e20, 1 / 3])) == [
        *("0", "1", "0.1", "-2.5", None),
        *("1e+20", "0.3333333333333333"),
    ]
    assert as_texts(np.array([True, False])) == ["1", "0"]
    assert as_texts(np.array(["b", "a"])) == ["b", "a"]
    assert as_texts(np.array([b"b"])) == ["b"]
    assert as_texts(objects("a", None)) == ["a", None]


def test_class_names_are_sorted() -> None:
    """Labels are sorted as names, whole numbers by their value."""
    assert class_names(objects("b", "a", None, "b")) == ("a", "b")
    assert class_names(np.array([10.0, 9.0, 2.0, 10.0])) == ("2", "9", "10")
    assert class_names(objects("10", "9", "x")) == ("9", "10", "x")
    assert class_names(np.array(["yes", "no"])) == ("no", "yes")


def test_regression_labels_of_a_table() -> None:
    """A regression's labels are numbers; a missing or unreadable one is refused with its row."""
    table = {"a": objects("1", "2"), "y": objects("1.5", "2")}
    schema, _ = resolve_schema(spec(numeric("a")), table, label="y")
    rows = rows_from_table(table, schema, label="y", classes=None, path=Path("t.csv"))
    assert rows.y is not None
    assert rows.y.tolist() == [1.5, 2]
    odd = {"t.csv, row 1: it has no label": objects("1", None), "is no number": objects("1", "x")}
    for sentence, values in odd.items():
        with refused(sentence):
            rows_from_table(table | {"y": values}, schema, label="y", classes=None, path=Path("t.csv"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"y": objects("ant", "dog")}, "t.csv, row 1: 'dog' is none of the classes ['ant', 'bee', 'cat']"),
        ({"y": objects("ant", None)}, "t.csv, row 1: it has no label"),
        ({"a": np.array([1.0, 1e39])}, "t.csv, row 1, column a: NaN, Infinity and numbers beyond float32"),
    ],
)
def test_rows_that_do_not_fit(change: Any, sentence: str) -> None:
    """An unknown or missing label, or a number that is none, is refused with its row."""
    table = {"a": np.array([1.0, 2.0]), "y": objects("ant", "bee")}
    schema, _ = resolve_schema(spec(numeric("a")), table, label="y")
    with refused(sentence):
        rows_from_table(table | change, schema, label="y", classes=toys.CLASSES, path=Path("t.csv"))


def test_rows_without_labels() -> None:
    """The label's column need not be there; a declared one must."""
    table = {"a": np.array([1.0, 2.0])}
    schema, _ = resolve_schema(spec(numeric("a")), table, label="y")
    assert rows_from_table(table, schema, label="y", classes=toys.CLASSES, path=Path("t.csv")).y is None
    with refused("t.csv: no column 'a'; there are ['b']"):
        rows_from_table({"b": table["a"]}, schema, label="y", classes=toys.CLASSES, path=Path("t.csv"))


def test_numeric_categories_of_parquet_match_those_of_csv() -> None:
    """A declared category is found whether its column is text or numbers."""
    given = spec(categorical("a", categories=["1", "0.5"]))
    for values in (objects("1", "0.5", "2"), np.array([1.0, 0.5, 2.0])):
        schema, _ = resolve_schema(given, {"a": values}, label="y")
        rows = rows_from_table({"a": values}, schema, label="y", classes=None, path=Path("t"))
        assert rows.x[:, 0].tolist() == [0, 1, -1]


def test_images_come_as_npz(tmp_path: Path) -> None:
    """Rows of another kind than a table's come as .npz."""
    with refused("t.csv: rows of kind image come as .npz"):
        load_rows(tmp_path / "t.csv", parse(toys.document("image")), toys.schema("image"), toys.CLASSES)


def test_missing_strings_of_the_config(tmp_path: Path) -> None:
    """What the config says is missing is missing in every file."""
    (tmp_path / "t.csv").write_text("length,mass,age,colour,y\n1,?,3,?,ant\n")
    rows = load_rows(tmp_path / "t.csv", TABLE, toys.schema(), toys.CLASSES)
    assert np.array_equal(rows.x.numpy(), [[1, NAN, 3, NAN]], equal_nan=True)
