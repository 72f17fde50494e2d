"""One table in every format of a file: the rows are the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models

from guards.config.config import parse
from guards.data.rows import load_rows
from guards.notices import Notices
from guards.types import Rows


def written(folder: Path) -> tuple[Rows, pd.DataFrame]:
    """Write the toy table as a plain CSV, and give its rows and its fields."""
    made = tiny_models.rows("tabular", 60)
    tiny_models.write_csv(folder / "plain.csv", made)
    return made, pd.read_csv(folder / "plain.csv", dtype=dict.fromkeys(("colour", "y", "group_region"), str))


def with_row_numbers(frame: pd.DataFrame, path: Path) -> None:
    frame.sample(frac=1, random_state=0).sort_index().set_index(pd.Index(range(7, 67))).to_csv(path)


def padded(frame: pd.DataFrame, path: Path) -> None:
    lines = [
        ", ".join(frame),
        *(", ".join(map(str, row)) for row in frame.astype(object).fillna("").to_numpy().tolist()),
    ]
    path.write_text("\n".join(lines))


def commented(frame: pd.DataFrame, path: Path) -> None:
    path.write_text("# made, by hand\n\n" + frame.to_csv(index=False))


def trailing(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(frame.to_csv(index=False).replace("\n", ",\n"))


def parts(frame: pd.DataFrame, path: Path) -> None:
    path.mkdir()
    for index in range(3):
        frame[index * 20 : index * 20 + 20].to_parquet(path / f"part-{index}.parquet")
    (path / "_SUCCESS").touch()


def categories(frame: pd.DataFrame, path: Path) -> None:
    types = {"colour": "category", "y": "category", "length": "float32"}
    frame.astype(types).to_parquet(path)


FORMS: dict[str, tuple[str, Callable[[pd.DataFrame, Path], object]]] = {
    "plain": ("t.csv", lambda frame, path: frame.to_csv(path, index=False)),
    "semicolons": ("t.csv", lambda frame, path: frame.to_csv(path, index=False, sep=";", decimal=",")),
    "tabs": ("t.tsv", lambda frame, path: frame.to_csv(path, index=False, sep="\t")),
    "bars": ("t.txt", lambda frame, path: frame.to_csv(path, index=False, sep="|")),
    "quoted": ("t.csv", lambda frame, path: frame.to_csv(path, index=False, quoting=1)),
    "carriage returns": ("t.csv", lambda frame, path: frame.to_csv(path, index=False, lineterminator="\r")),
    "UTF-16": ("t.csv", lambda frame, path: frame.to_csv(path, index=False, encoding="utf-16")),
    "UTF-8 with a mark": ("t.csv", lambda frame, path: frame.to_csv(path, index=False, encoding="utf-8-sig")),
    "gzip": ("t.csv.gz", lambda frame, path: frame.to_csv(path, index=False)),
    "Zstandard": ("t.csv.zst", lambda frame, path: path.write_bytes(zstandard(frame.to_csv(index=False)))),
    "zip": ("t.csv.zip", lambda frame, path: frame.to_csv(path, index=False)),
    "counted": ("t.csv", lambda frame, path: frame.to_csv(path)),
    "numbered": ("t.csv", with_row_numbers),
    "padded": ("t.csv", padded),
    "commented": ("t.csv", commented),
    "trailing": ("t.csv", trailing),
    "Parquet": ("t.parquet", lambda frame, path: frame.to_parquet(path)),
    "Parquet with an index": ("t.pq", lambda frame, path: frame.set_index(pd.Index(range(9, 69))).to_parquet(path)),
    "Parquet with categories": ("t.parquet", categories),
    "Feather": ("t.feather", lambda frame, path: frame.to_feather(path)),
    "a folder": ("parts", parts),
}


def zstandard(text: str) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text.encode())
    return bytes(sink.getvalue())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_gives_the_same_rows(form: str, tmp_path: Path) -> None:
    """Inputs, labels and groups are the same as from the plain CSV, without a warning."""
    made, frame = written(tmp_path)
    name, write = FORMS[form]
    write(frame, tmp_path / name)
    notices = Notices()
    rows = load_rows(
        tmp_path / name, parse(tiny_models.document("tabular")), tiny_models.schema(), tiny_models.CLASSES, notices
    )
    assert np.allclose(rows.x.numpy(), made.x.numpy(), equal_nan=True, atol=1e-7)
    assert rows.y is not None
    assert made.y is not None
    assert rows.y.tolist() == made.y.tolist()
    assert rows.groups == made.groups
    assert notices.warnings == []
