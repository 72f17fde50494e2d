"""Metric families as plain data, which are sent to a front and kept in a file."""

import math
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.telemetry.metrics.plain_families import FamiliesFile, Family, number, sample


@given(st.floats())
def test_every_value_crosses_as_it_is(value: float) -> None:
    """A sample's value is the same after JSON, also if JSON has no such number."""
    _, crossed = orjson.loads(orjson.dumps(sample(["a"], value)))
    assert number(crossed) == value or (math.isnan(number(crossed)) and math.isnan(value))


def test_counters_of_the_last_families(tmp_path: Path) -> None:
    """A file gives the last value of every counter by name and labels; a gauge goes on from nothing."""
    file = FamiliesFile(tmp_path / "families.json")
    assert (file.read(), file.counters()) == (None, {})
    families: list[Family] = [
        {"name": "seen", "help": "Seen.", "kind": "counter", "labels": ["s"], "samples": [sample(["x"], 3)]},
        {"name": "size", "help": "Size.", "kind": "gauge", "labels": [], "samples": [sample([], math.nan)]},
    ]
    file.write(orjson.dumps(families))
    assert file.counters() == {("seen", "x"): 3.0}
    assert [path.name for path in tmp_path.iterdir()] == ["families.json"]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A scrape is answered all the same, and one line in the log says what a restart will lose."""
    file = FamiliesFile(tmp_path / "gone" / "families.json")
    with caplog.at_level("WARNING", "guardhouse"):
        file.write(b"[]")
        file.write(b"[]")
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "the last metrics cannot be kept for a restart: No such file or directory"
    ]
