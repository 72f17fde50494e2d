"""Files with random damage are read, or refused in a sentence; none ends in a traceback."""

import gzip
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models

from guards import Mistake
from guards.data.npz import read_npz, rows_from_npz
from guards.data.table_file import read_table

CSV = b'a,b,"c d",y\n1,2.5,x,ant\n2,,"y, z",bee\n3,1e5,"two\nlines",cat\n4,7," q",ant\n'
PIECES = (
    b",",
    b";",
    b"\t",
    b'"',
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"#",
    b"1,5",
    b"\xe9",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"sep=;",
)


def sound(suffix: str, folder: Path) -> bytes:
    """Give the bytes of a sound file of a kind."""
    path = folder / f"sound.{suffix}"
    frame = pd.DataFrame(
        {
            "number": [1, 2, None],
            "text": ["x", None, "z"],
            "category": pd.Categorical(["u", "v", "u"]),
            "date": pd.date_range("2024", periods=3),
            "nested": [[1], [2, 3], None],
        }
    )
    if suffix == "npz":
        np.savez(path, x=np.ones((5, 5)), y=np.arange(5) % 3, group_a=np.array(list("abcde")))
    elif suffix in ("parquet", "feather"):
        getattr(frame, f"to_{suffix}")(path)
    else:
        return CSV if suffix == "csv" else gzip.compress(CSV)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet", "feather", "npz"])
def test_damage_is_refused_in_a_sentence(suffix: str, tmp_path: Path) -> None:
    """A file with bytes changed, removed or inserted is read, or refused by its name."""
    chance = random.Random(suffix)  # noqa: S311 - no secret
    whole, path = sound(suffix, tmp_path), tmp_path / f"t.{suffix}"
    read, sentences = 0, list[str]()
    for _ in range(400):
        raw = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(raw))
            if suffix == "csv":
                raw[at : at + chance.randint(0, 2)] = chance.choice(PIECES)
            elif chance.random() < 0.5:
                raw[at] = chance.randrange(256)
            else:
                del raw[at : at + chance.randint(1, 40)]
        path.write_bytes(bytes(raw))
        try:
            if suffix == "npz":
                rows_from_npz(read_npz(path), tiny_models.schema("tensor"), classes=tiny_models.CLASSES, path=path)
            else:
                columns = read_table(path, missing=("?",)).columns.values()
                assert len({len(column) for column in columns}) == 1
            read += 1
        except Mistake as mistake:
            sentences += mistake.sentences
    assert read > 0
    assert len(sentences) > 0
    assert all(str(path) in sentence for sentence in sentences)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.npz"])
def test_a_pointer_of_git_lfs(tmp_path: Path, name: str) -> None:
    """A file that Git LFS has not fetched is refused, of whatever kind, with the command that fetches it."""
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(Mistake, match="is only a pointer of Git LFS to the data; fetch the data: git lfs pull"):
        (read_npz if name.endswith(".npz") else read_table)(tmp_path / name)
