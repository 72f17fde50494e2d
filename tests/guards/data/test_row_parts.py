"""A file that is read in parts: its rows, ids and groups are those of the whole file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_models
import torch

from guards.config.load import parse
from guards.data import row_parts as module
from guards.data.row_parts import row_parts
from guards.data.rows import load_rows
from guards.notices import Notices
from guards.types import Mistake

SCHEMA = tiny_models.schema("tabular")
CONFIG = parse(tiny_models.document("tabular", reference={"path": "t.csv", "label": "y", "missing": ["?"]}))


def in_parts(path: Path, monkeypatch: pytest.MonkeyPatch, notices: Notices, rows: int = 7) -> list[module.Part]:
    monkeypatch.setattr(module, "ROWS", rows)
    count, parts = row_parts(path, CONFIG, SCHEMA, notices, multiple=rows)
    read = list(parts)
    assert [len(part.rows) for part in read[:-1]] == [rows] * (len(read) - 1)
    assert sum(len(part.rows) for part in read) == count
    return read


def table(rows: int = 30) -> pd.DataFrame:
    x = tiny_models.inputs("tabular", rows, 1).numpy()
    frame = pd.DataFrame({name: x[:, at].round(2) for at, name in enumerate(tiny_models.COLUMNS[:3])})
    colours = np.array([*tiny_models.COLOURS, None], dtype=object)
    frame["colour"] = colours[np.nan_to_num(x[:, 3], nan=len(colours) - 1).astype(int)]
    frame["group_region"] = ["north", "south"] * (rows // 2)
    frame["id"] = [f"order-{row}" for row in range(rows)]
    return frame


def write(path: Path, frame: pd.DataFrame) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=4)
    else:
        frame.to_csv(path, index=False)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_parts_are_the_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a table, one after the other, are the rows that are read at once, with their ids and groups."""
    write(tmp_path / name, table())
    whole = load_rows(tmp_path / name, CONFIG, SCHEMA, tiny_models.CLASSES)
    parts = in_parts(tmp_path / name, monkeypatch, Notices())
    assert torch.equal(torch.cat([part.rows.x for part in parts]).nan_to_num(-9), whole.x.nan_to_num(-9))
    assert sum((part.ids for part in parts), ()) == tuple(f"order-{row}" for row in range(30))
    assert sum((part.rows.groups["region"] for part in parts), ()) == whole.groups["region"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.npz"])
def test_rows_are_numbered_without_ids(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without ids has the row numbers of the file as ids, through all parts."""
    if name == "t.npz":
        np.savez(tmp_path / name, x=tiny_models.inputs("tabular", 30, 1).numpy())
    else:
        write(tmp_path / name, table().drop(columns="id"))
    parts = in_parts(tmp_path / name, monkeypatch, Notices())
    assert len(parts) == 5
    assert sum((part.ids for part in parts), ()) == tuple(map(str, range(30)))


def test_a_missing_id_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of ids that has a gap is refused, with the rows of the file: an answer needs a name."""
    frame = table()
    frame.loc[[9, 10], "id"] = None
    write(tmp_path / "t.csv", frame)
    with pytest.raises(Mistake, match=r"rows 9, 10: the column 'id' has no value; write an id into every row"):
        in_parts(tmp_path / "t.csv", monkeypatch, Notices())


def test_labels_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that the model does not know is no reason to refuse a row that is only to be answered."""
    write(tmp_path / "t.csv", table().assign(y="wasp"))
    assert all(part.rows.y is None for part in in_parts(tmp_path / "t.csv", monkeypatch, Notices()))


def test_a_mistake_in_a_later_part_says_from_where_rows_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence about a row of a later part says at which row of the file the part begins."""
    frame = table().astype({"mass": object})
    frame.loc[16, "mass"] = "heavy"
    write(tmp_path / "t.csv", frame)
    with pytest.raises(Mistake, match=r"row 2: 'heavy' is no number.*\(rows are counted from row 14 of the file\)"):
        in_parts(tmp_path / "t.csv", monkeypatch, Notices())


def test_a_warning_of_every_part_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that would all give the same warning give one, and a note how many more parts there are."""
    frame = table().assign(colour="RED")
    write(tmp_path / "t.csv", frame)
    notices = Notices()
    in_parts(tmp_path / "t.csv", monkeypatch, notices)
    assert len(notices.warnings) == 1
    assert "the same holds for 4 more parts of the file" in notices.notes[-1]


def test_empty_files_are_refused(tmp_path: Path) -> None:
    """A table without rows is refused before anything is answered."""
    for name in ("t.csv", "t.parquet"):
        write(tmp_path / name, table(2).iloc[:0])
        with pytest.raises(Mistake, match="the file has no rows"):
            row_parts(tmp_path / name, CONFIG, SCHEMA, Notices(), multiple=4)
