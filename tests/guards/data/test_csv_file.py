"""CSV files become tables, or a sentence says what is wrong with the file."""

import bz2
import csv
import gzip
import io
import lzma
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guards import Mistake
from guards.data.table_file import read_table
from guards.notices import Notices

Read = dict[str, list[object]]
FIELDS = st.text('xyü1",;\n|', max_size=6)


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def read(path: Path, content: str | bytes, **options: Any) -> tuple[Read, Notices]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    notices = Notices()
    table = read_table(path, notices=notices, **options)
    assert {column.type for column in table.columns.values()} == {"untyped"}
    return {name: list(column.cells) for name, column in table.columns.items()}, notices


def test_csv_by_column(tmp_path: Path) -> None:
    """A CSV's columns are strings, with None for the empty field and what else means missing."""
    columns, notices = read(tmp_path / "t.csv", "a,b,c\n1,NA,?\n,x y,null\n2.50, z,\n", missing=("?",))
    assert columns == {"a": ["1", None, "2.50"], "b": ["NA", "x y", " z"], "c": [None, "null", None]}
    assert notices == Notices()


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (
            'a,b\n1,"x, y"\n2,"two\nlines"\n3,"a ""quote"""\n',
            {"a": ["1", "2", "3"], "b": ["x, y", "two\nlines", 'a "quote"']},
        ),
        ("a,b\r\n1,2\r\n", {"a": ["1"], "b": ["2"]}),
        ("a,b\r1,2\r3,4", {"a": ["1", "3"], "b": ["2", "4"]}),
        ("\n\na,b\n\n1,2\n\n3,4\n\n", {"a": ["1", "3"], "b": ["2", "4"]}),
        ("\ufeffa,b\n1,2\n", {"a": ["1"], "b": ["2"]}),
        ("ä,b\nü,2\n", {"ä": ["ü"], "b": ["2"]}),
        ('a,b\n"1",5" screen\n', {"a": ["1"], "b": ['5" screen']}),
        ("0,1,2\n5,6,7\n", {"0": ["5"], "1": ["6"], "2": ["7"]}),
        ("0.5,1.0,1.5,2.0,2.5\n9,8,7,6,5\n", {"0.5": ["9"], "1.0": ["8"], "1.5": ["7"], "2.0": ["6"], "2.5": ["5"]}),
        ("1990,1995,land\n5,6,de\n", {"1990": ["5"], "1995": ["6"], "land": ["de"]}),
        ("a\n1\n2\n", {"a": ["1", "2"]}),
        ("a,b\n1,2\n  \n", {"a": ["1"], "b": ["2"]}),
        ('a\n1\n""\n2\n', {"a": ["1", None, "2"]}),
        ('a,b\n1,"said, ""no"""\n2, x\n', {"a": ["1", "2"], "b": ['said, "no"', " x"]}),
        ("a,b\n007,1e5\n", {"a": ["007"], "b": ["1e5"]}),
    ],
)
def test_plain_csv_is_read_without_a_word(tmp_path: Path, content: str, columns: Read) -> None:
    """Quotes, all line ends, blank lines, a mark at the beginning and counted columns are plain CSV."""
    assert read(tmp_path / "t.csv", content) == (columns, Notices())


@pytest.mark.parametrize(
    ("content", "columns", "note"),
    [
        ("a;b\n1;x,y\n2;z\n", {"a": ["1", "2"], "b": ["x,y", "z"]}, "separated by semicolons, not by commas"),
        ("a\tb\n1\tx\n", {"a": ["1"], "b": ["x"]}, "separated by tabs, not by commas"),
        ("a|b\n1|x\n", {"a": ["1"], "b": ["x"]}, "separated by vertical bars, not by commas"),
        (
            "a,b,\n1,2,\n3,4,\n",
            {"a": ["1", "3"], "b": ["2", "4"]},
            "left out: 1 column with neither a name nor a",
        ),
        ("a,b\n1,2,\n3,4,\n", {"a": ["1", "3"], "b": ["2", "4"]}, "every line ends with a delimiter"),
        ("a,b,\n1,2\n", {"a": ["1"], "b": ["2"]}, "the header ends with a delimiter"),
        ("# made, today\na,b\n1,2\n", {"a": ["1"], "b": ["2"]}, "skipped before the header: 1 line of comments"),
        ("# one\n#two\na,b\n1,2\n", {"a": ["1"], "b": ["2"]}, "skipped before the header: 2 lines of comments"),
        ("#a,b\n1,2\n", {"a": ["1"], "b": ["2"]}, "the header begins with '#': its first name is read as 'a'"),
        ("a\n1\n\n2\n", {"a": ["1", "2"]}, "blank lines are skipped; in a table of one column write"),
        ("sep=;\na;b\n1;2\n", {"a": ["1"], "b": ["2"]}, None),
        ("a, b\n1, x\n2, y\n", {"a": ["1", "2"], "b": ["x", "y"]}, "spaces around the fields are taken off in 'b'"),
        ("a, b\n1, x\n", {"a": ["1"], "b": ["x"]}, "spaces around names of columns are taken off, such as ' b'"),
        ('a, b\n1, "x, y"\n', {"a": ["1"], "b": ["x, y"]}, "spaces after the delimiters are skipped"),
        (
            "a  ,b\nx  ,1\nyyy,2\n",
            {"a": ["x", "yyy"], "b": ["1", "2"]},
            "spaces around the fields are taken off in 'a'",
        ),
        (
            "a,b\n 1,x\n ,y\n",
            {"a": ["1", None], "b": ["x", "y"]},
            "fields that hold only spaces are read as missing in 'a'",
        ),
        (",a\n0,5\n1,6\n", {"a": ["5", "6"]}, "the first column, without a name, is left out as an index of the rows"),
        ("Unnamed: 0,a\n7,5\n3,6\n", {"a": ["5", "6"]}, "the first column ('Unnamed: 0') is left out as an index"),
        ('"","a"\n"1","5"\n"2","6"\n', {"a": ["5", "6"]}, "the first column, without a name, is left out"),
        ("Unnamed: 0.1,Unnamed: 0,a\n0,0,5\n1,1,5\n", {"a": ["5", "5"]}, "the first column ('Unnamed: 0') is left out"),
    ],
)
def test_other_csv_is_read_with_a_note(tmp_path: Path, content: str, columns: Read, note: str | None) -> None:
    """Other delimiters, comments, trailing delimiters, padding and row numbers are read, with a note."""
    found, notices = read(tmp_path / "t.csv", content)
    assert found == columns
    assert notices.warnings == []
    assert note is None or any(note in each for each in notices.notes), notices


def test_an_index_that_holds_no_numbers_is_warned_of(tmp_path: Path) -> None:
    """A first column without a name that names the rows is left out with a warning, since it may be data."""
    columns, notices = read(tmp_path / "t.csv", ",a\nAda,5\nBob,6\n")
    assert columns == {"a": ["5", "6"]}
    assert "is left out as an index of the rows, though it does not hold row numbers" in notices.warnings[0]


def test_an_index_that_the_config_names_is_read(tmp_path: Path) -> None:
    """A column that the config names is read, whatever its name and its values look like."""
    columns, notices = read(tmp_path / "t.csv", "Unnamed: 0,a\n0,5\n1,6\n", wanted={"Unnamed: 0"})
    assert (columns, notices) == ({"Unnamed: 0": ["0", "1"], "a": ["5", "6"]}, Notices())


def test_an_unnamed_column_with_repeated_values_is_kept(tmp_path: Path) -> None:
    """A column that pandas named `Unnamed: 0` and that does not tell rows apart is kept, with a warning."""
    columns, notices = read(tmp_path / "t.csv", "Unnamed: 0,a\n1,5\n1,6\n")
    assert columns == {"Unnamed: 0": ["1", "1"], "a": ["5", "6"]}
    assert "the column 'Unnamed: 0' has a name that pandas gives" in notices.warnings[0]


def test_spaces_that_are_a_part_of_a_value_stay(tmp_path: Path) -> None:
    """Spaces around some of a column's fields are kept: only padding of all of them is taken off."""
    assert read(tmp_path / "t.csv", "a,b\n1, x\n2,yy\n3,z \n") == (
        {"a": ["1", "2", "3"], "b": [" x", "yy", "z "]},
        Notices(),
    )


def test_decimal_commas(tmp_path: Path) -> None:
    """Decimal commas are read as points if a comma cannot mean thousands; points of thousands go."""
    columns, notices = read(tmp_path / "t.csv", "a;b;c;d\n1,5;1.234,5;1,234;x,y\n-2;7;0;z\n?;;5,678;\n", missing=("?",))
    assert columns == {
        "a": ["1.5", "-2", None],
        "b": ["1234.5", "7", None],
        "c": ["1.234", "0", "5.678"],
        "d": ["x,y", "z", None],
    }
    assert any("decimal commas are read as points in 'a', 'b', 'c'" in note for note in notices.notes)
    assert notices.warnings == []


def test_commas_that_may_mean_thousands_stay(tmp_path: Path) -> None:
    """Commas before three digits stay as they are if nothing in the file says what they are."""
    columns, _ = read(tmp_path / "t.csv", "a;b\n1,234;x\n12,500;y\n")
    assert columns["a"] == ["1,234", "12,500"]


def test_points_beside_decimal_commas_are_warned_of(tmp_path: Path) -> None:
    """A point before three digits is warned of if other columns have decimal commas: it may mean thousands."""
    columns, notices = read(tmp_path / "t.csv", "a;b\n1,5;1.234\n2,5;5.678\n")
    assert columns == {"a": ["1.5", "2.5"], "b": ["1.234", "5.678"]}
    assert "column 'b': values such as '1.234' hold a point" in notices.warnings[0]


@pytest.mark.parametrize("name", ["t.tsv", "t.TSV", "t.tsv.gz"])
def test_tsv_has_tabs(tmp_path: Path, name: str) -> None:
    """A .tsv is separated by tabs, which needs no note."""
    content = b"a\tb\n1\tx, y\n"
    columns, notices = read(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert (columns, notices) == ({"a": ["1"], "b": ["x, y"]}, Notices())


def zipped(content: bytes, *names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names or ("t.csv",):
            archive.writestr(name, content)
    return stream.getvalue()


def zstandard(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zip": zipped, "zst": zstandard}


@pytest.mark.parametrize("suffix", PACKED)
def test_compressed_csv(tmp_path: Path, suffix: str) -> None:
    """A compressed CSV is read by its name; a file of that name that is not compressed so is refused."""
    path = tmp_path / f"t.csv.{suffix}"
    assert read(path, PACKED[suffix](b"a,b\n1,2\n")) == ({"a": ["1"], "b": ["2"]}, Notices())
    with refused(f"{path}: cannot be read as a table: "):
        read(path, b"a,b\n1,2\n")
    with refused("t.csv: cannot be read as a table: the content is "):
        read(tmp_path / "t.csv", PACKED[suffix](b"a,b\n1,2\n"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_of_unicode(tmp_path: Path, encoding: str) -> None:
    """UTF-16 and UTF-32 with a byte order mark are read, with a note."""
    columns, notices = read(tmp_path / "t.csv", "a,b\nü,2\n".encode(encoding))
    assert columns == {"a": ["ü"], "b": ["2"]}
    assert f"the text is read as {encoding.upper()}" in notices.notes[0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "cannot be read as a table: the file is empty"),
        ("\n \n", "cannot be read as a table: the file is empty"),
        ("a,b\n", "the file has no rows"),
        ("# nothing\n", "the file has no rows"),
        ("sep=;\n", "the file has no rows"),
        (
            "a,b\n1,2\n1,2,3\n1\n",
            (
                ", line 3 (and 1 more line): cannot be read as a table: the line has 3 fields, but the header "
                "names 2 columns; a field that holds ',' must be in quotes"
            ),
        ),
        (
            "a,b\n\n1,2\n\n1\n",
            (
                ", line 5: cannot be read as a table: the line has 1 field, but the header names 2 columns; a "
                "field without a value needs its ',' too"
            ),
        ),
        (
            "Export of May\n\na,b\n1,2\n3,4\n5,6\n7,8\n",
            (
                ", line 3 (and 4 more lines): cannot be read as a table: the line has 2 fields, but the header names "
                "1 column; if the names of the columns stand in a later line than the first, delete the lines before"
            ),
        ),
        (
            "% a tool, 2024\n% x\na,b,c\n1,2,3\n4,5,6\n7,8,9\n0,0,0\n",
            (
                ", line 2 (and 5 more lines): cannot be read as a table: the line has 1 field, but the header names "
                "2 columns; if the names of the columns stand in a later line than"
            ),
        ),
        ("<!DOCTYPE html>\n<html>\n</html>\n", "the content is a web page; download the file itself"),
        ('a,b\n1,"two\nlines"\n1,2,3\n', ", line 4: cannot be read as a table: the line has 3 fields"),
        ("#\na,b\n1,2\n1,2,3\n", ", line 4: cannot be read as a table: the line has 3 fields"),
        (
            "a,b\nx,1,2\ny,3,4\n",
            "every row has 3 fields, but the header names 2 columns; if the first field of a row is its",
        ),
        (
            "a,b,c\n1,2\n3,4\n",
            ", line 2 (and 1 more line): cannot be read as a table: the line has 2 fields, but the header",
        ),
        (
            'a,b\n1,2\n3,"x\n5,6\n',
            ", line 3: cannot be read as a table: a quote that opens a field here is never closed",
        ),
        ('a,b\n1,2\n3,"x" y\n', ", line 3: cannot be read as a table: a quoted field is followed by something other"),
        ("a,b\n1,2\n3,\x004\n", ", line 3: cannot be read as a table: the line holds a NUL character"),
        ("a,b,a\n1,2,3\n", "the name 'a' is given twice, to the columns 1 and 3; rename one of them"),
        ("a,b, a\n1,2,3\n", "the name 'a' is given twice, to the columns 1 and 3; rename one of them"),
        ('a,b\n1,"x\ny"\na,b\n2,z\n', ", line 4: the line repeats the header, as if two files were joined; delete the"),
        ("a,,b\n1,2,3\n", "column 2 of the inputs has no name; write a name for it in the header"),
        (",a\nx,1\nx,2\n", "column 1 of the inputs has no name; write a name for it in the header"),
        (
            "5.1,3.5,1.4\n4.9,3.0,1.4\n",
            "the first line looks like data ('5.1', '3.5', '1.4'), not like a header; write a header before it",
        ),
        ("39, ant, 2\n4, bee, ?\n5, ant, 6\n6, bee, 7\n", "the first line looks like data ('39', 'ant', '2')"),
        ("5.1,3.5,ant\n4.9,3.0,bee\n4.9,3.0,ant\n", "the first line looks like data ('5.1', '3.5', 'ant')"),
        ("a::b\n1::2\n4::5\n", "the fields seem to be separated by '::'; separate them by commas"),
        ("a\x01b\n1\x012\n4\x015\n", "the fields seem to be separated by '\\x01'; separate them by commas"),
        ("a^b\n1^2\n4^5\n", "the fields seem to be separated by '^'; separate them by commas"),
        ("a b y\n1 2 3\n4 5 6\n", "the fields seem to be separated by spaces; separate them by commas"),
    ],
)
def test_broken_csv(tmp_path: Path, content: str, sentence: str) -> None:
    """A file whose lines have unlike many fields, or names that cannot be, is refused with the line."""
    with refused(f"{tmp_path / 't.csv'}{'' if sentence.startswith(',') else ': '}") as found:
        read(tmp_path / "t.csv", content)
    assert sentence in str(found.value)


def test_a_stray_delimiter_never_shifts_columns(tmp_path: Path) -> None:
    """One delimiter too many, on any line of a file of any length, is refused with the line's number."""
    lines = ["a,b,c", *(f"{index},x{index % 3},0.5" for index in range(2000))]
    for at in (1, 2, 150, 2000):
        stray = [*lines[:at], lines[at].replace(",", ",,", 1), *lines[at + 1 :]]
        with refused(f"line {at + 1}: cannot be read as a table: the line has 4 fields"):
            read(tmp_path / "t.csv", "\n".join(stray))


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"a,b\n1,x\n2,caf\xe9\n", 3, "the byte 0xE9 is not UTF-8; read as Windows-1252 the line begins '2,café'"),
        (b"a,b\r1,x\r2,\xe9\r", 3, "the byte 0xE9 is not UTF-8"),
        ("a,b\n1,x\n".encode("utf-16-le"), 1, "the line holds a NUL character; if the file is UTF-16"),
    ],
)
def test_text_that_is_not_utf8(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    """Text in another encoding is refused with the line, the byte and the way out."""
    with refused(f"{tmp_path / 't.csv'}, line {line}: cannot be read as a table: {reason}"):
        read(tmp_path / "t.csv", content)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:-9], "cannot be read as a table: "),
        ("t.csv.zip", zipped(b"a,b\n", "a.csv", "b.csv"), "cannot be read as a table: the archive holds 2 files"),
        ("t.xlsx", b"PK", "an Excel workbook is not read; save the table as CSV or Parquet"),
        ("t.json", b"{}", "JSON is not read; save the table as CSV or Parquet"),
        ("t.npy", b"", "the file holds a single array; save the array as .npz, with numpy.savez"),
        (
            "t.csv",
            b"PAR1xx",
            "cannot be read as a table: the content is Parquet; give the file a name that ends in .parq",
        ),
        ("t.csv", b"\x00\x00\xea`1,2", "cannot be read as a table: the content is no text; save the table as CSV or"),
        ("t.csv", b"PK\x03\x04", "cannot be read as a table: the content is a zip archive or an Excel workbook"),
    ],
)
def test_broken_table(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    """A file that is no table, is damaged or is missing is refused in a sentence."""
    with refused(f"{tmp_path / name}: no such file"):
        read_table(tmp_path / name)
    with refused(f"{tmp_path / name}: {sentence}"):
        read(tmp_path / name, content)


def test_fields_are_those_of_pandas(tmp_path: Path) -> None:
    """Of files that pandas reads rightly every field is the same, whatever needs quotes in it."""
    rng = np.random.default_rng(0)
    texts = np.array(["plain", "a,b", 'a "b"', "two\nlines", "ü", "", "  spaced", "#", "'"], dtype=object)
    frame = pd.DataFrame({"n": rng.normal(size=500).astype(str), **{c: rng.choice(texts, 500) for c in "abc"}})
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = read_table(tmp_path / "t.csv")
    for name in frame:
        assert [cell or "" for cell in table.columns[str(name)].cells] == frame[name].tolist()


@given(
    st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), min_size=1)),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_field_is_kept(tmp_path: Path, rows: list[list[str]], delimiter: str, end: str, quoting: int) -> None:
    """Every field is read as it was written, whatever it holds and however fields are separated."""
    names = list("abcd"[: len(rows[0])])
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerows([names, *rows])
    table = read_table(tmp_path / "t.csv")
    assert list(table.columns) == names
    read_rows = zip(*(column.cells.tolist() for column in table.columns.values()), strict=True)
    assert [[cell or "" for cell in row] for row in read_rows] == rows


def test_many_rows_are_read_fast(tmp_path: Path) -> None:
    """A file of 100,000 rows and 15 columns is read within five times what pandas takes to read it as text."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(100_000, 15)), columns=list("abcdefghijklmno"))
    frame.to_csv(tmp_path / "t.csv", index=False)

    def seconds(read: Callable[[], object]) -> float:
        start = time.process_time()
        assert len(read()) == 100_000  # type: ignore[arg-type]
        return time.process_time() - start

    took = [
        (
            seconds(lambda: read_table(tmp_path / "t.csv", missing=("?", "NA"))),
            seconds(lambda: pd.read_csv(tmp_path / "t.csv", dtype=str)),
        )
        for _ in range(2)
    ]
    assert min(ours for ours, _ in took) < 5 * min(theirs for _, theirs in took)
