"""Data files of every kind become rows, whose values mean what they mean in the reference."""

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
from example_tables import fields, numbers, spec, table, typed, understood

from guards import Mistake
from guards.config.config import parse
from guards.data.rows import check_known, load_rows, rows_from_table
from guards.data.table import Table, TableColumn, as_texts
from guards.data.table_file import read_table
from guards.notices import Notices

NAN = np.nan
TABLE = parse(tiny_models.document("tabular", reference={"path": "train.csv", "missing": ["?"]}))


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def codes(reference: TableColumn, other: TableColumn, **keys: Any) -> list[float]:
    """Read a column of another file by what it is in the reference."""
    schema, _ = understood(spec({"name": "a", **keys}), table(a=reference))
    x = rows_from_table(table(a=other), schema, label="y", classes=()).x[:, 0]
    return [None if value != value else value for value in x.tolist()]  # noqa: PLR0124 - NaN


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_the_same_rows_from_every_kind_of_table(tmp_path: Path, suffix: str) -> None:
    """CSV, gzipped CSV and Parquet give the same rows, labels and groups."""
    made = tiny_models.rows("tabular", 50)
    tiny_models.write_csv(tmp_path / "t.csv", made)
    if suffix == ".csv.gz":
        (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    if suffix == ".parquet":
        frame = pd.read_csv(tmp_path / "t.csv")
        frame.astype({"colour": "category"}).to_parquet(tmp_path / "t.parquet")
    config = parse(tiny_models.document("tabular"))
    rows = load_rows(tmp_path / f"t{suffix}", config, tiny_models.schema(), tiny_models.CLASSES)
    assert np.allclose(rows.x.numpy(), made.x.numpy(), equal_nan=True)
    assert rows.y is not None
    assert made.y is not None
    assert rows.y.tolist() == made.y.tolist()
    assert rows.groups == made.groups


@pytest.mark.parametrize(
    ("reference", "keys", "other", "expected"),
    [
        (fields("1", "2"), {}, numbers(2, 1), [2, 1]),
        (fields("1", "2"), {}, typed("text", "2", "1.0", None), [2, 1, None]),
        (fields("1", "2"), {}, fields("007", " 2 "), [7, 2]),
        (fields("1", "2"), {}, typed("boolean", True, False), [1, 0]),
        (fields("1", "2"), {"kind": "categorical"}, numbers(2.0, NAN, 1.0), [1, None, 0]),
        (fields("1", "2"), {"kind": "categorical"}, fields("2.0", None, "1.0"), [1, None, 0]),
        (numbers(1.0, 2.0), {"kind": "categorical"}, fields("2.0", "3"), [1, -1]),
        (typed("text", "007", "8"), {}, fields("007", "7", "8.0"), [0, -1, 1]),
        (fields("true", "false"), {}, typed("boolean", True, False, None), [1, 0, None]),
        (typed("boolean", True, False), {}, fields("true", "FALSE", None), [1, 0, None]),
        (typed("boolean", True, False), {"kind": "numeric"}, fields("true", "0", "FALSE"), [1, 0, 0]),
        (typed("category", "b", "a", categories=("a", "b")), {}, fields("b", "c"), [1, -1]),
        (numbers(2**60, 2**60 + 1), {"kind": "categorical"}, fields(str(2**60 + 1)), [1]),
        (fields("1", "NA"), {"missing": ["NA", "-999"]}, fields("3", "NA", "-999.0"), [3, None, None]),
        (numbers(1, -999), {"missing": ["-999"]}, numbers(-999.0, 5), [None, 5]),
        (fields("a", "?"), {"missing": ["?"]}, fields("?", "a", "b"), [None, 0, -1]),
    ],
)
def test_values_mean_the_same_in_every_file(
    reference: TableColumn, keys: dict[str, Any], other: TableColumn, expected: list[float | None]
) -> None:
    """A value of another type or writing than in the reference is the same number, boolean or category."""
    assert codes(reference, other, **keys) == expected


@pytest.mark.parametrize(
    ("reference", "other", "sentence"),
    [
        (fields("1", "2"), fields("1", "x"), "t.csv, column 'a', row 1: 'x' is no number; if the value means missing"),
        (
            fields("1", "2"),
            fields("1", "45%"),
            "'45%' is no number (the value looks like percentages: write plain numbers",
        ),
        (fields("1", "2"), typed("nested", [1]), "t.csv, column 'a': the column holds lists, structures or bytes"),
        (fields("1", "1.0", "b"), numbers(1.0), "t.csv, row 0, column a: a string: '1' could mean"),
        (numbers(1.0, 2.0), numbers(1.0, 1e39), "t.csv, row 1, column a: NaN, Infinity and numbers beyond float32"),
    ],
)
def test_values_that_have_no_meaning(reference: TableColumn, other: TableColumn, sentence: str) -> None:
    """A value that its column cannot have is refused with its row."""
    if sentence.endswith("could mean"):
        assert codes(reference, other) == [0]  # the name itself goes before another writing of it
        reference, other = fields("1.0", "1.00", "b"), fields("1")
    with refused(sentence):
        codes(reference, other)


def test_a_column_of_another_type_is_no_calibration() -> None:
    """A categorical column none of whose values is known is refused; some unknown values are not, nor is a gap."""
    schema, _ = understood(spec(), table(a=fields("true", "false")))
    notices = Notices()
    for cells, sound in ((numbers(0, 1), False), (fields("x", "true"), True), (fields(None, None), True)):
        rows = rows_from_table(table(a=cells), schema, label="y", classes=())
        if sound:
            check_known(rows, schema, Path("t.csv"), notices)
        else:
            with refused(
                "t.csv: none of the values of column 'a' is a category of the reference; its categories are [\"false\""
            ):
                check_known(rows, schema, Path("t.csv"), notices)
    assert notices.warnings == []
    schema, _ = understood(spec(), table(a=fields(*(f"name {index}" for index in range(101)))))
    check_known(rows_from_table(table(a=fields("x")), schema, label="y", classes=()), schema, Path("t.csv"), notices)
    assert len(notices.warnings) == 1


def test_a_group_that_is_an_input_is_no_group() -> None:
    """A column whose name begins with group_ and is listed is an input, and the others are groups."""
    made = table(a=fields("1", "2"), group_size=numbers(1, 2), group_sex=fields("f", None))
    schema, _ = understood(spec({"name": "group_size"}), made)
    rows = rows_from_table(made, schema, label="y", classes=())
    assert (schema.names, rows.groups) == (("a", "group_size"), {"sex": ("f", None)})


def test_rows_that_do_not_fit() -> None:
    """A column or a label that is not there or not known is refused; labels need not be there."""
    schema, _ = understood(spec({"name": "a"}, {"name": "b"}), table(a=numbers(1, 2), b=fields("u", "v")))
    made = {"a": numbers(1.0, 2.0), "b": fields("u", "v")}
    assert rows_from_table(table(**made), schema, label="y", classes=tiny_models.CLASSES).y is None
    for y, sentence in {
        fields("ant", "dog"): 't.csv, row 1: \'dog\' is none of the classes ["ant", "bee", "cat"]',
        fields("ant", None): "t.csv, row 1: no label",
    }.items():
        with refused(sentence):
            rows_from_table(table(**made, y=y), schema, label="y", classes=tiny_models.CLASSES)
    with pytest.raises(Mistake) as told:
        rows_from_table(table(c=fields("u", "v")), schema, label="y", classes=tiny_models.CLASSES)
    assert told.value.sentences == ("t.csv: no column 'a'; there are ['c']", "t.csv: no column 'b'; there are ['c']")


def test_texts_of_numbers() -> None:
    """Numbers are named by their shortest digits, as a CSV would have them."""
    assert as_texts(np.array([0.0, 1.0, 0.1, -2.5, NAN, 1e20, 1 / 3])) == [
        *("0", "1", "0.1", "-2.5", None),
        *("1e+20", "0.3333333333333333"),
    ]
    assert as_texts(np.array([True, False])) == ["1", "0"]
    assert as_texts(np.array(["b", "a"])) == ["b", "a"]
    assert as_texts(np.array([b"b"])) == ["b"]
    assert as_texts(np.array(["a", None], dtype=object)) == ["a", None]


def test_images_come_as_npz(tmp_path: Path) -> None:
    """Rows of another kind than a table's come as .npz."""
    with refused("t.csv: rows of kind image come as .npz"):
        load_rows(
            tmp_path / "t.csv", parse(tiny_models.document("image")), tiny_models.schema("image"), tiny_models.CLASSES
        )


def test_missing_strings_of_the_config(tmp_path: Path) -> None:
    """The values that the config declares as missing are missing in every file."""
    (tmp_path / "t.csv").write_text("length,mass,age,colour,y\n1,?,3,?,ant\n")
    rows = load_rows(tmp_path / "t.csv", TABLE, tiny_models.schema(), tiny_models.CLASSES)
    assert np.array_equal(rows.x.numpy(), [[1, NAN, 3, NAN]], equal_nan=True)


def test_categories_in_another_writing_are_warned_of(tmp_path: Path) -> None:
    """A category in other capitals, with spaces, or composed in another way is warned of; another one is not."""
    schema, _ = understood(spec({"name": "a"}), table(a=fields("ant", "caf\u00e9")))
    notices = Notices()
    other = table(a=fields("ant", "cafe\u0301", "Ant", "ant ", "fly", None))
    rows_from_table(other, schema, label="y", classes=(), notices=notices)
    (warning,) = notices.warnings
    assert warning.startswith(
        "t.csv, column 'a': categories are written in another way than in the reference in 3 rows"
    )
    assert "(row 1: 'cafe\u0301' for 'caf\u00e9')" in warning
    notices = Notices()
    (tmp_path / "t.csv").write_text("length,mass,age,colour,y\n1,2,3,fly,ant\n1,2,3,blue,ant\n1,2,3,BLUE,ant\n")
    load_rows(tmp_path / "t.csv", TABLE, tiny_models.schema(), tiny_models.CLASSES, notices)
    (warning,) = notices.warnings
    assert "in 1 row (row 2: 'BLUE' for 'blue')" in warning


def test_a_column_in_another_writing_is_named() -> None:
    """If a column exists under a name that differs only in its spelling, the error names that column."""
    schema, _ = understood(spec({"name": "caf\u00e9"}), Table(Path("t.csv"), {"caf\u00e9": numbers(1, 2)}))
    for name in ("cafe\u0301", "Caf\u00e9"):
        with refused(f"t.csv: no column 'caf\u00e9'; there is {name!r}, which differs only in capitals, spaces or the"):
            rows_from_table(table(**{name: numbers(1, 2)}, b=numbers(1, 2)), schema, label="y", classes=())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_numbers_of_the_config(tmp_path: Path, suffix: str) -> None:
    """A number that the config says is missing is missing in every file, however the number is written."""
    frame = pd.DataFrame({"length": [1.5, -999.0], "mass": [-999, 2], "age": [2**60, -999], "colour": ["red", "-999"]})
    path = tmp_path / f"t{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    columns = read_table(path, missing=("-999.0",)).columns
    assert [pd.isna(columns[name].cells).tolist() for name in ("length", "mass", "age", "colour")] == [
        *([False, True], [True, False], [False, True], [False, True])
    ]
    assert as_texts(columns["age"].cells) == [str(2**60), None]
    assert as_texts(read_table(path, missing=("7", "x")).columns["mass"].cells) == ["-999", "2"]
