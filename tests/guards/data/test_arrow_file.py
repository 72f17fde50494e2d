"""Parquet and Feather files to tables."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from guards import Mistake
from guards.data.files import read_table
from guards.data.table import as_texts

NAN = math.nan


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


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
    assert np.array_equal(table.columns["whole"].cells, [1, NAN, 3], equal_nan=True)
    assert np.array_equal(table.columns["real"].cells, [0.5, NAN, 2], equal_nan=True)
    assert as_texts(table.columns["truth"].cells) == ["True", "False", "True"]
    assert list(table.columns["text"].cells) == ["a", None, "c"]


def test_parquet_without_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no Parquet engine can be imported, that is the sentence."""
    (tmp_path / "t.parquet").write_bytes(b"")

    def read(_: Path) -> Any:
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", read)
    with refused("t.parquet: cannot be read as a table: Unable to find a usable engine"):
        read_table(tmp_path / "t.parquet")
