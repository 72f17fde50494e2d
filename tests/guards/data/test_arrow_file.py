"""Parquet and Feather files become tables with the types of the file."""

import datetime as dt
import decimal
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from guards import Mistake
from guards.data.table import TableColumn, as_texts
from guards.data.table_file import read_table
from guards.notices import Notices

NAN = math.nan
LARGE = 2**63 - 1


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def read(path: Path, **options: Any) -> tuple[dict[str, TableColumn], Notices]:
    notices = Notices()
    return read_table(path, notices=notices, **options).columns, notices


def column(tmp_path: Path, values: pa.Array) -> TableColumn:
    """Write an array into a Parquet and a Feather file, and read the same from both."""
    table = pa.table({"c": values})
    pq.write_table(table, tmp_path / "t.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "t.feather")
    found = [read(tmp_path / name)[0]["c"] for name in ("t.parquet", "t.feather")]
    assert [(each.type, each.categories, each.ordered) for each in found[1:]] == [
        (each.type, each.categories, each.ordered) for each in found[:1]
    ]
    assert found[0].cells.dtype == found[1].cells.dtype
    assert list(map(repr, found[0].cells.tolist())) == list(map(repr, found[1].cells.tolist()))
    return found[0]


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
    table, notices = read(tmp_path / "t.parquet")
    assert np.array_equal(table["whole"].cells, [1, NAN, 3], equal_nan=True)
    assert np.array_equal(table["real"].cells, [0.5, NAN, 2], equal_nan=True)
    assert as_texts(table["truth"].cells) == ["True", "False", "True"]
    assert list(table["text"].cells) == ["a", None, "c"]
    assert [each.type for each in table.values()] == ["number", "number", "boolean", "text"]
    assert notices == Notices()


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint8(), pa.int16(), pa.int32(), pa.int64(), pa.uint64(), pa.decimal128(20, 0)]
)
def test_whole_numbers_are_exact(tmp_path: Path, kind: pa.DataType) -> None:
    """Whole numbers of any width stay whole, and missing ones are NaN."""
    found = column(tmp_path, pa.array([1, 7], kind))
    assert found.type == "number"
    assert found.cells.dtype == (np.uint64 if kind == pa.uint64() else np.int64)
    assert np.array_equal(column(tmp_path, pa.array([1, None], kind)).cells.astype(float), [1, NAN], equal_nan=True)


def test_large_whole_numbers_keep_their_digits(tmp_path: Path) -> None:
    """Numbers beyond 2^53 do not go through float64, though some are missing."""
    assert column(tmp_path, pa.array([LARGE, 2**53 + 1])).cells.tolist() == [LARGE, 2**53 + 1]
    assert column(tmp_path, pa.array([LARGE, None, 2**53 + 1])).cells.tolist() == [LARGE, None, 2**53 + 1]
    assert column(tmp_path, pa.array([2**64 - 1, 0], pa.uint64())).cells.tolist() == [2**64 - 1, 0]
    assert column(tmp_path, pa.array([2**64 - 1, None], pa.uint64())).cells.tolist() == [2**64 - 1, None]
    many = decimal.Decimal(12345678901234567890)
    assert column(tmp_path, pa.array([many, None])).cells.tolist() == [int(many), None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1.5, None, NAN], pa.float16()), [1.5, NAN, NAN]),
        (pa.array([1.5, None, NAN], pa.float32()), [1.5, NAN, NAN]),
        (pa.array([0.1, None, NAN, math.inf], pa.float64()), [0.1, NAN, NAN, math.inf]),
        (pa.array([decimal.Decimal("1.10"), None]), [1.1, NAN]),
        (pa.array([decimal.Decimal("1.10")], pa.decimal256(50, 2)), [1.1]),
        (pa.array([None, None], pa.int64()), [NAN, NAN]),
    ],
)
def test_real_numbers(tmp_path: Path, values: pa.Array, expected: list[float]) -> None:
    """Reals of any width and decimals are float64; null and NaN are both missing."""
    found = column(tmp_path, values)
    assert (found.type, found.cells.dtype) == ("number", np.float64)
    assert np.array_equal(found.cells, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array(["007", None, ""]), "text", ["007", None, ""]),
        (pa.array(["1", "2"], pa.large_string()), "text", ["1", "2"]),
        (pa.array([True, None, False]), "boolean", [True, None, False]),
        (pa.array([True, False]), "boolean", [True, False]),
        (pa.array([None, None]), "untyped", [None, None]),
        (pa.array([None, None], pa.string()), "text", [None, None]),
        (pa.array([dt.date(2024, 1, 2), None]), "date", ["2024-01-02", None]),
        (pa.array([dt.datetime(2024, 1, 2, 3, 4, 5), None]), "date", ["2024-01-02T03:04:05", None]),  # noqa: DTZ001
        (pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 7)], pa.timestamp("us", "UTC")), "date",  # noqa: DTZ001
         ["2024-01-02T03:04:05.000007Z"]),
        (pa.array([dt.datetime(2024, 1, 2, 3), None], pa.timestamp("ns", "Europe/Berlin")), "date",  # noqa: DTZ001
         ["2024-01-02T03:00:00Z", None]),
        (pa.array([dt.datetime(2024, 1, 2, 3)], pa.timestamp("s", "UTC")), "date", ["2024-01-02T03:00:00Z"]),  # noqa: DTZ001
        (pa.array([dt.time(1, 2, 3)]), "date", ["01:02:03"]),
        (pa.array([dt.timedelta(hours=1, milliseconds=5), None]), "date", ["PT3600.005S", None]),
        (pa.array([[1, 2], None]), "nested", ["[1, 2]", None]),
        (pa.array([{"a": 1}]), "nested", ["{'a': 1}"]),
        (pa.array([b"x", None]), "nested", ["b'x'", None]),
    ],
)  # fmt: skip
def test_other_types(tmp_path: Path, values: pa.Array, kind: str, expected: list[object]) -> None:
    """Texts, booleans, dates and nested values keep their type; dates are texts in the form of ISO 8601."""
    found = column(tmp_path, values)
    assert (found.type, found.cells.tolist()) == (kind, expected)
    assert found.cells.dtype == object
    assert {type(cell) for cell in found.cells} <= {str, bool, type(None)}


def test_periods_and_intervals_are_no_numbers(tmp_path: Path) -> None:
    """Types of pandas that Parquet stores as numbers keep their meaning: a period is a date, an interval is nested."""
    frame = pd.DataFrame({"p": pd.PeriodIndex(["2024-01", "NaT"], freq="M"), "i": pd.interval_range(0, 2)})
    frame.to_parquet(tmp_path / "t.parquet")
    table, _ = read(tmp_path / "t.parquet")
    assert (table["p"].type, table["p"].cells.tolist()) == ("date", ["2024-01", None])
    assert table["i"].type == "nested"


def test_categories_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """A category's names, their order, those that no row has, and whether the order has a meaning are kept."""
    frame = pd.DataFrame(
        {
            "size": pd.Categorical(["m", None, "s"] * 50, categories=["s", "m", "l"], ordered=True),
            "code": pd.Categorical([3, 1, None] * 50, categories=[9, 3, 1]),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=7)
    frame.to_feather(tmp_path / "t.feather")
    for name in ("t.parquet", "t.feather"):
        table, _ = read(tmp_path / name)
        size, code = table["size"], table["code"]
        assert (size.type, size.categories, size.ordered) == ("category", ("s", "m", "l"), True)
        assert size.cells.tolist() == ["m", None, "s"] * 50
        assert (code.type, code.cells.tolist()) == ("category", ["3", "1", None] * 50)
        assert not code.ordered
        # Parquet keeps the numbers alone, and not their order: they are sorted.
        assert code.categories == (("1", "3") if name == "t.parquet" else ("9", "3", "1"))


def test_dictionaries_that_differ_by_part_are_one(tmp_path: Path) -> None:
    """Parts whose dictionaries differ have the texts of all; a way to store texts tells no order of categories."""
    for index, names in enumerate((["b", "a"], ["c", "b"])):
        pq.write_table(pa.table({"c": pa.array(names).dictionary_encode()}), tmp_path / f"{index}.parquet")
    (found,) = read(tmp_path)[0].values()
    assert (found.type, found.categories, found.cells.tolist()) == ("category", None, ["b", "a", "c", "b"])


@pytest.mark.parametrize("index", [[0, 1, 2], [7, 3, 5]])
def test_an_index_of_pandas_is_no_input(tmp_path: Path, index: list[int]) -> None:
    """Row numbers that pandas wrote beside the columns are left out, with a note."""
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=pd.Index(index))
    frame.to_parquet(tmp_path / "t.parquet", index=True)
    table, notices = read(tmp_path / "t.parquet")
    assert list(table) == ["a"]
    assert notices.warnings == []
    stored = "__index_level_0__" in pq.read_schema(tmp_path / "t.parquet").names
    assert stored == any("the column '__index_level_0__' is left out as an index" in note for note in notices.notes)
    assert stored or index == [0, 1, 2]


def test_an_index_that_holds_names_is_warned_of(tmp_path: Path) -> None:
    """An index that is no row number is left out with a warning, since it may be data."""
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="town"))
    frame.to_parquet(tmp_path / "t.parquet")
    table, notices = read(tmp_path / "t.parquet")
    assert list(table) == ["a"]
    assert "the column 'town' is left out as an index of the rows, though it does not hold" in notices.warnings[0]


def test_an_index_that_the_config_names_is_read(tmp_path: Path) -> None:
    """A column that a frame had as its index is read if the config names it."""
    pd.DataFrame({"a": [1, 2, 3], "id": [7, 3, 9]}).set_index("id").to_parquet(tmp_path / "t.parquet")
    table, notices = read(tmp_path / "t.parquet", wanted={"id", "y"})
    assert {name: each.cells.tolist() for name, each in table.items()} == {"a": [1, 2, 3], "id": [7, 3, 9]}
    assert notices == Notices()


def test_a_folder_of_parts(tmp_path: Path) -> None:
    """A folder's Parquet files are one table in the order of their names; hidden files and marks are skipped."""
    folder = tmp_path / "data"
    folder.mkdir()
    for index, name in enumerate(("part-1.snappy.parquet", "part-0.pq", "part-2.parquet")):
        pq.write_table(pa.table({"a": [index], "b": ["x"]}), folder / name)
    for name in ("_SUCCESS", "._hidden.parquet", ".crc", "_metadata"):
        (folder / name).write_bytes(b"")
    table, notices = read(folder)
    assert table["a"].cells.tolist() == [1, 0, 2]
    assert notices.notes == [f"{folder}: read as one table: 3 files, from part-0.pq to part-2.parquet"]
    (folder / "readme.txt").write_text("words")
    assert "left out: 1 file, such as 'readme.txt'" in read(folder)[1].notes[0]


def test_folders_that_name_a_column(tmp_path: Path) -> None:
    """Folders named `column=value` give that column, untyped, since a folder's name has no type."""
    for name, value in (("country=de", 1), ("country=f%20r", 2), ("country=__HIVE_DEFAULT_PARTITION__", 3)):
        (tmp_path / "t" / name / "year=2024").mkdir(parents=True)
        pq.write_table(pa.table({"a": [value]}), tmp_path / "t" / name / "year=2024" / "p.parquet")
    table, _ = read(tmp_path / "t")
    assert dict(zip(table["a"].cells.tolist(), table["country"].cells.tolist(), strict=True)) == {
        1: "de",
        2: "f r",
        3: None,
    }
    assert table["year"].cells.tolist() == ["2024"] * 3
    assert [each.type for each in table.values()] == ["number", "untyped", "untyped"]
    one, _ = read(tmp_path / "t" / "country=de" / "year=2024" / "p.parquet")
    assert list(one) == ["a"]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (
            {"a": [1], "c": ["x"]},
            "1.parquet: the columns are not the columns of 0.parquet (only one of the two has 'b')",
        ),
        (
            {"b": ["x"], "a": [1]},
            "1.parquet: the columns are not the columns of 0.parquet (the columns come in another order)",
        ),
        ({"a": ["1"], "b": ["x"]}, "1.parquet, column 'a': the type is string, but int64 in 0.parquet"),
    ],
)
def test_parts_that_differ(tmp_path: Path, second: dict[str, list[Any]], sentence: str) -> None:
    """Parts with other columns or other types are refused, with the part and the column."""
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "0.parquet")
    pq.write_table(pa.table(second), tmp_path / "1.parquet")
    with refused(sentence):
        read(tmp_path)


def test_a_part_without_values_has_the_type_of_the_others(tmp_path: Path) -> None:
    """A column that has no value in one part has the type that other parts give it."""
    pq.write_table(pa.table({"a": pa.array([None, None])}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "1.parquet")
    (found,) = read(tmp_path)[0].values()
    assert (found.type, found.cells.tolist()) == ("text", [None, None, "x"])


def test_folders_that_are_no_table(tmp_path: Path) -> None:
    """A folder without Parquet files, or with folders that name no column, is refused."""
    with refused(f"{tmp_path}: the folder holds no file that ends in .parquet"):
        read(tmp_path)
    (tmp_path / "sub").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "sub" / "p.parquet")
    with refused("p.parquet: the folder 'sub' is not named column=value; put all parts into one folder"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["t.pq", "t.PARQUET", "t.feather", "t.arrow"])
def test_names_of_files(tmp_path: Path, name: str) -> None:
    """Parquet and Feather are read by all their usual names; .arrow also as a stream."""
    table = pa.table({"a": [1], "b": ["x"]})
    if name.lower() in ("t.pq", "t.parquet"):
        pq.write_table(table, tmp_path / name)
    elif name == "t.feather":
        pyarrow.feather.write_feather(table, tmp_path / name)
    else:
        with pa.OSFile(str(tmp_path / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    found, _ = read(tmp_path / name)
    assert [(each.type, each.cells.tolist()) for each in found.values()] == [("number", [1]), ("text", ["x"])]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.parquet", b"PAR1 but not really", "cannot be read as a table: "),
        ("t.parquet", b"", "cannot be read as a table: "),
        ("t.feather", b"nonsense", "cannot be read as a table: "),
        ("t.arrow", b"", "cannot be read as a table: "),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    """A damaged or missing file is refused in a sentence."""
    with refused(f"{tmp_path / name}: no such file"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(content)
    with refused(f"{tmp_path / name}: {sentence}"):
        read(tmp_path / name)


def test_tables_that_cannot_be(tmp_path: Path) -> None:
    """Two columns of one name, and a table without rows, are refused."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table([pa.array([1]), pa.array([2]), pa.array([2])], names=["a", "b", "a"]), path)
    with refused(f"{path}: the name 'a' is given twice, to the columns 1 and 3; rename one of them"):
        read(path)
    pq.write_table(pa.table({"a": [1], "": [2]}), path)
    with refused(f"{path}: column 2 has no name; give it a name"):
        read(path)
    pq.write_table(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string()).dictionary_encode()}), path)
    with refused(f"{path}: the file has no rows"):
        read(path)


def test_missing_strings_in_a_typed_file(tmp_path: Path) -> None:
    """Strings that the config says mean missing are missing in texts and categories of a typed file too."""
    texts = ["?", "a", "NA"]
    pd.DataFrame({"a": texts, "b": pd.Categorical(texts), "c": [1, 2, 3]}).to_parquet(tmp_path / "t.pq")
    table, _ = read(tmp_path / "t.pq", missing=("?", "NA"))
    assert [each.cells.tolist() for each in table.values()] == [[None, "a", None], [None, "a", None], [1, 2, 3]]
    assert table["b"].categories == ("a",)
