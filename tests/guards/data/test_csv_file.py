"""CSV files to tables, and the sentence for everything that is wrong with one."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest

from guards import Mistake
from guards.data.files import read_table


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def test_csv_by_column(tmp_path: Path) -> None:
    """A CSV's columns are strings, with None for the empty field and what else means missing."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,NA,?\n,x y,null\n2.50, z,\n")
    table = read_table(path, missing=("?",))
    assert {name: list(column.cells) for name, column in table.columns.items()} == {
        "a": ["1", None, "2.50"],
        "b": ["NA", "x y", " z"],
        "c": [None, "null", None],
    }


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
