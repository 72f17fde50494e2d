"""A CSV file means the same whether it is read whole or in parts."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from guards.data.csv_file import csv_parts
from guards.notices import Notices
from guards.types import Mistake

FIELDS = st.sampled_from(["1", " 1", "1 ", "12", "1,5", "2.000,5", "1.234", "", " ", "?", '"a b"', "x", "1e3", '"1;2"'])
NAMES = st.sampled_from([("a", "b", "c"), ("", "b", "c"), ("a", " b", ""), ("Unnamed: 0", "b", "1.5")])


def read(path: Path, size: int | None) -> tuple[dict[str, list[Any]], Notices, tuple[str, ...]]:
    """Read a file, whole or in parts; give its columns, what was told, and the sentences of a refusal."""
    notices = Notices()
    try:
        count, parts = csv_parts(path, ("?",), set(), notices, rows=size)
        tables = list(parts)
    except Mistake as mistake:
        return {}, notices, mistake.sentences
    assert sum(map(len, tables)) == count
    columns = {name: [cell for part in tables for cell in part.columns[name].cells] for name in tables[0].columns}
    return columns, notices, ()


@given(NAMES, st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=9), st.sampled_from(",;\t"), st.integers(1, 4))
def test_parts_are_the_whole(names: tuple[str, ...], rows: list[tuple[str, ...]], delimiter: str, size: int) -> None:
    """Columns, cells, notes, warnings and refusals are the same, however many rows are read at once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text("\n".join(delimiter.join(row) for row in (names, *rows)) + "\n")
        assert read(path, size) == read(path, None)
