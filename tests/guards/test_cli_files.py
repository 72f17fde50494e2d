"""Files to rows: YAML, CSV, Parquet and .npz, and the sentence for everything that is wrong with one."""

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
from guards.cli.arrays import read_npz, rows_from_npz, table_of_npz
from guards.cli.configs import load_config
from guards.cli.files import class_names, load_rows
from guards.cli.tables import as_texts, read_table, resolve_schema, rows_from_table
from guards.config import parse
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


# ---- YAML


def test_config_is_read(tmp_path: Path) -> None:
    """A YAML file becomes a config."""
    path = toys.write(tmp_path, "tensor")
    assert load_config(path) == parse(toys.document("tensor"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: [", "gateway.yaml:1: no valid YAML: "),
        ("name: a\nname: b\n", "gateway.yaml:1: no valid YAML: the key 'name' is given twice"),
        ("model: {task: a, task: b}", "the key 'task' is given twice"),
        ("a: &x [*x]\nb: 2024-13-45", "no valid YAML: month must be in 1..12"),
        ("? [a]\n: b", "no valid YAML: found unhashable key"),
        ("a: !!python/object/apply:os.system [true]", "no valid YAML: could not determine a constructor"),
        ("--- a\n--- b\n", "no valid YAML: but found another document"),
        ("just words", "a config is a mapping of keys"),
        ("", "a config is a mapping of keys"),
        ("\x07", "no valid YAML: "),
    ],
)
def test_yaml_mistake(tmp_path: Path, text: str, sentence: str) -> None:
    """What is no YAML, or gives a key twice, is refused with its line."""
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    with refused(sentence):
        load_config(path)


def test_unreadable_config(tmp_path: Path) -> None:
    """A file that is missing, a folder, or not UTF-8 is refused in a sentence."""
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    for path in (tmp_path / "nowhere.yaml", tmp_path, tmp_path / "latin.yaml"):
        with refused(f"{path}: cannot be read ("):
            load_config(path)


def test_labels_stay_labels(tmp_path: Path) -> None:
    """YAML's `no` and `on` are strings here, and only true and false are booleans."""
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "name: x\nmodel: {builder: 'm:b', classes: [no, yes, on, off, y], compile: true}\n"
        "input: {kind: tabular}\nreference: {path: a.csv}\n"
    )
    config = load_config(path)
    assert config.model.classes == ("no", "yes", "on", "off", "y")
    assert config.model.compile


# ---- tables


def test_csv_by_column(tmp_path: Path) -> None:
    """A CSV's columns are strings, with None for the empty field and what else means missing."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,NA,?\n,x y,null\n2.50, z,\n")
    table = read_table(path, missing=("?",))
    assert {name: list(values) for name, values in table.items()} == {
        "a": ["1", None, "2.50"],
        "b": ["NA", "x y", " z"],
        "c": [None, "null", None],
    }


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


def test_parquet_types(tmp_path: Path) -> None:
    """Parquet numbers are numbers, missing or not; booleans and strings are categories."""
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "real": [0.5, None, 2.0],
            "truth": [True, False, True],
            "text": ["a", None, "c"],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert np.array_equal(table["whole"], [1, NAN, 3], equal_nan=True)
    assert np.array_equal(table["real"], [0.5, NAN, 2], equal_nan=True)
    assert as_texts(table["truth"]) == ["True", "False", "True"]
    assert list(table["text"]) == ["a", None, "c"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"", "cannot be read as a table: "),
        ("t.csv", b"a,b\n", "it has no rows"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read as a table: "),
        ("t.csv", "a\né\n".encode("latin-1"), "cannot be read as a table: "),
        ("t.csv.gz", b"not gzip", "cannot be read as a table: "),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:-9], "cannot be read as a table: "),
        ("t.parquet", b"PAR1 but not really", "cannot be read as a table: "),
    ],
)
def test_broken_table(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    """A file that is no table, damaged or empty is refused in a sentence; so is one that is missing."""
    with refused(f"{tmp_path / name}: no such file"):
        read_table(tmp_path / name)
    (tmp_path / name).write_bytes(content)
    with refused(f"{tmp_path / name}: {sentence}"):
        read_table(tmp_path / name)


def test_parquet_without_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no Parquet engine can be imported, that is the sentence."""
    (tmp_path / "t.parquet").write_bytes(b"")

    def read(_: Path) -> Any:
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", read)
    with refused("t.parquet: cannot be read as a table: Unable to find a usable engine"):
        read_table(tmp_path / "t.parquet")


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


# ---- .npz


def test_npz_is_read(tmp_path: Path) -> None:
    """Rows, class indices and groups are read; other arrays are left alone."""
    made = toys.rows("tensor", 20)
    assert made.y is not None
    groups = np.array(made.groups["region"])
    np.savez(tmp_path / "r.npz", x=made.x.numpy(), y=made.y.numpy(), group_region=groups, note=np.array("hello"))
    rows = load_rows(tmp_path / "r.npz", parse(toys.document("tensor")), toys.schema("tensor"), toys.CLASSES)
    assert rows.x.tolist() == made.x.tolist()
    assert rows.y is not None
    assert rows.y.tolist() == made.y.tolist()
    assert rows.groups == made.groups


def arrays(**values: Any) -> dict[str, Any]:
    return {"x": np.zeros((3, 5), np.float32), **values}


def rows_of(
    kind: str, *, regression: bool = False, classes: tuple[str, ...] | None = toys.CLASSES, **values: Any
) -> Any:
    return rows_from_npz(values, toys.schema(kind), classes=classes, regression=regression, path=Path("r.npz"))


def test_bytes_of_images_are_divided_by_255() -> None:
    """uint8 pictures are scaled to [0, 1], floats are taken as they are."""
    x = np.arange(36, dtype=np.uint8).reshape(1, 1, 6, 6) * 7
    scaled = rows_of("image", x=x).x
    assert scaled.numpy() == pytest.approx(x / 255)
    assert np.array_equal(rows_of("image", x=scaled.numpy()).x.numpy(), scaled.numpy())
    assert rows_of("tensor", x=np.full((2, 5), 255, np.uint8)).x.max() == 255
    with refused("image values reach from 0 to 245; scale them to [0, 1] or give uint8"):
        rows_of("image", x=x.astype(np.float32))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([0, 2, 1]), [0, 2, 1]),
        (np.array([[0], [2], [1]]), [0, 2, 1]),
        (np.array([0, 2, 1], np.uint8), [0, 2, 1]),
        (np.array(["ant", "cat", "bee"]), [0, 2, 1]),
        (np.array([b"ant", b"cat", b"bee"]), [0, 2, 1]),
        (np.array([False, True, True]), [0, 1, 1]),
    ],
)
def test_labels_of_npz(y: Any, expected: list[int]) -> None:
    """Labels are class indices or names, in one column or flat."""
    assert rows_of("tensor", **arrays(y=y)).y.tolist() == expected


def test_values_of_npz() -> None:
    """A regression's labels are numbers of any type."""
    for y in (np.array([1, 2, 3]), np.array([[1.0], [2.0], [3.0]])):
        assert rows_of("tensor", regression=True, classes=None, **arrays(y=y)).y.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "values", "sentence"),
    [
        ({}, {"x": np.zeros((3, 4))}, "a row of `x` has shape [4], the config's input has [5]"),
        ({}, arrays(y=np.array([0.0, 1.0, 2.0])), "`y` holds float64; it needs class indices or names"),
        ({}, arrays(y=np.array([0, 1, 3])), "`y` reaches from 0 to 3, but there are 3 classes"),
        ({}, arrays(y=np.array([0, 1, -1])), "`y` reaches from -1 to 1, but there are 3 classes"),
        ({}, arrays(y=np.array(["ant", "dog", "bee"])), "row 1: 'dog' is none of the classes"),
        ({}, arrays(y=np.zeros((3, 2), int)), "`y` has shape [3, 2]; it needs one entry per row"),
        ({"regression": True}, arrays(y=np.array([0, 1, NAN])), "`y` holds float64, or is not finite; a regression"),
        ({"regression": True}, arrays(y=np.array(["a", "b", "c"])), "`y` holds <U1, or is not finite; a regression"),
    ],
)
def test_npz_that_does_not_fit(options: Any, values: Any, sentence: str) -> None:
    """A shape or a label that does not fit is refused in a sentence."""
    with refused(sentence):
        rows_of("tensor", **options, **values)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"y": np.zeros(3)}, "it has no rows under `x`; there are ['y']"),
        ({"x": np.zeros((0, 5))}, "it has no rows under `x`; there are ['x']"),
        ({"x": np.array(3.0)}, "it has no rows under `x`; there are ['x']"),
        ({"x": np.array(["a", "b"])}, "`x` holds <U1, not numbers"),
        ({"x": np.zeros((3, 5), complex)}, "`x` holds complex128, not numbers"),
        (arrays(y=np.zeros(2)), "`y` has shape [2] for 3 rows"),
        (arrays(y=np.array(1)), "`y` has shape [] for 3 rows"),
        (arrays(group_a=np.array(["f"])), "`group_a` has shape [1] for 3 rows"),
    ],
)
def test_npz_without_sound_arrays(tmp_path: Path, content: dict[str, Any], sentence: str) -> None:
    """No rows, rows that are no numbers, and labels or groups of another length are refused."""
    np.savez(tmp_path / "r.npz", **content)
    with refused(sentence):
        read_npz(tmp_path / "r.npz")


def test_broken_npz(tmp_path: Path) -> None:
    """A file that is missing, no archive, damaged, a bare array or full of Python objects is refused in a sentence."""
    path = tmp_path / "r.npz"
    with refused("r.npz: no such file"):
        read_npz(path)
    np.savez(path, x=np.random.default_rng(0).random((50, 50)))
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    for content in (b"", b"nonsense", whole[:-20], whole[: len(whole) // 2], bytes(damaged)):
        path.write_bytes(content)
        with refused("r.npz: cannot be read as .npz: "):
            read_npz(path)
    np.savez(path, x=objects({"a": 1}, None))
    with refused("cannot be read as .npz: Object arrays cannot be loaded"):
        read_npz(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros((3, 5)))
    with refused("it is a single array; save it with numpy.savez"):
        read_npz(path)


def test_table_in_an_npz() -> None:
    """A table's x holds numbers and category indices; what is no index is an unseen category."""
    x = np.array([[1, 2, 3, 0], [NAN, 2, 3, 2], [1, 2, 3, NAN], [1, 2, 3, 7], [1, 2, 3, 0.5], [1, 2, 3, -1]])
    rows = rows_of("tabular", x=x)
    assert np.array_equal(rows.x[:, 3].numpy(), [0, 2, NAN, -1, -1, -1], equal_nan=True)
    assert np.array_equal(rows.x[:, :3].numpy(), x[:, :3], equal_nan=True)
    with refused("r.npz, row 1, column mass: NaN, Infinity and numbers beyond float32"):
        rows_of("tabular", x=np.array([[0, 0, 0, 0], [0, 1e39, 0, 0]]))


def test_columns_of_an_npz() -> None:
    """Declared columns name those of x; undeclared ones are numbered; indices become categories."""
    x = np.array([[1.5, 0], [2.5, 1], [NAN, 9]])
    given = spec(numeric("a"), categorical("b", categories=["u", "v"]))
    table = table_of_npz({"x": x}, given, Path("r.npz"), label="y")
    assert np.array_equal(table["a"], x[:, 0], equal_nan=True)
    assert list(table["b"]) == ["u", "v", None]
    assert set(table_of_npz({"x": x, "y": np.ones(3)}, spec(), Path("r.npz"), label="y")) == {"x0", "x1", "y"}
    with refused("r.npz: `x` has shape [3, 2]; a table needs (rows, 1)"):
        table_of_npz({"x": x}, spec(numeric("a")), Path("r.npz"), label="y")
    with refused("r.npz: `x` has shape [3]; a table needs (rows, columns)"):
        table_of_npz({"x": x[:, 0]}, spec(), Path("r.npz"), label="y")
    with refused("input.columns.1: an .npz holds category indices; declare `categories`"):
        table_of_npz({"x": x}, spec(numeric("a"), categorical("b")), Path("r.npz"), label="y")


def test_images_come_as_npz(tmp_path: Path) -> None:
    """Rows of another kind than a table's come as .npz."""
    with refused("t.csv: rows of kind image come as .npz"):
        load_rows(tmp_path / "t.csv", parse(toys.document("image")), toys.schema("image"), toys.CLASSES)


def test_missing_strings_of_the_config(tmp_path: Path) -> None:
    """What the config says is missing is missing in every file."""
    (tmp_path / "t.csv").write_text("length,mass,age,colour,y\n1,?,3,?,ant\n")
    rows = load_rows(tmp_path / "t.csv", TABLE, toys.schema(), toys.CLASSES)
    assert np.array_equal(rows.x.numpy(), [[1, NAN, 3, NAN]], equal_nan=True)
