"""`guardhouse predict` answers a file as a server of the same bundle answers its rows."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from example_folders import CRASH_HIDDEN, CRASH_WIRE, TABLE_COLUMNS, WIRED, loans

if TYPE_CHECKING:
    from gateways import Gateway


def plain(value: Any) -> Any:
    """Read a cell of Parquet as JSON has it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return None if value is None or value is pd.NA or value != value else value  # noqa: PLR0124 - NaN


def test_a_file_has_the_answers_of_a_server(table: "Gateway", bundles: Any, tmp_path: Path) -> None:
    """Every row has the label, probabilities, set, action, reasons and findings that the server answers."""
    rows = [*loans(60, seed=3), WIRED | {"trap": CRASH_WIRE}, WIRED | {"trap": CRASH_HIDDEN}]
    ids = [f"order-{place}" for place in range(len(rows))]
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", *TABLE_COLUMNS])
        writer.writerows([id_, *(row[name] for name in TABLE_COLUMNS)] for id_, row in zip(ids, rows, strict=True))
    said = table.predict(rows, ids=ids, parameters={"detail": True})
    command = [sys.executable, "-m", "service", "predict", bundles.bundle("table"), tmp_path / "rows.csv"]
    options = ["--out", tmp_path / "answers.parquet", "--config", bundles.config("table")]
    environment = {**os.environ, "PYTHONPATH": bundles.python_path}
    subprocess.run([*command, *options], check=True, env=environment, capture_output=True, timeout=300)
    found = pd.read_parquet(tmp_path / "answers.parquet")
    assert len(found) == len(said)
    for (_, row), answer in zip(found.iterrows(), said, strict=True):
        for name in ("id", "label", "prediction_set", "action", "reasons"):
            assert plain(row[name]) == answer.get(name), name
        probabilities = {
            name.partition(".")[2]: plain(row[name]) for name in found if name.startswith("probabilities.")
        }
        expected = answer.get("probabilities", dict.fromkeys(probabilities))
        assert probabilities == pytest.approx(expected, abs=1e-6)
        guards = {name.split(".")[1] for name in found if name.startswith("guards.")}
        assert guards == answer["guards"].keys()
        for guard, finding in answer["guards"].items():
            assert {key: plain(row[f"guards.{guard}.{key}"]) for key in finding} == finding
