"""Tables go to standard error, and one strict JSON document goes to standard output."""

import json
import math

import pytest

from benchmarks.harness.ratios import Spread
from benchmarks.harness.report import print_document, print_table


def test_the_document_is_strict_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Dataclasses become objects, and numbers that are not finite become null."""
    print_document("speed", quick=True, ratio=Spread(1.0, math.nan, math.inf), rounds=[{8: 0.5}], flat=False)
    said = capsys.readouterr()
    document = json.loads(said.out, parse_constant=pytest.fail)
    assert document["benchmark"] == "speed"
    assert document["ratio"] == {"median": 1.0, "least": None, "greatest": None}
    assert document["rounds"] == [{"8": 0.5}]
    assert document["flat"] is False
    assert said.err == ""


def test_a_table_shows_every_column_of_any_row(capsys: pytest.CaptureFixture[str]) -> None:
    """A column that only a later row has is there, and text in brackets is shown as it is."""
    print_table("speed [least, greatest]", {"one": {"a": 1.23456}, "two": {"b": "2 [1, 3]", "a": None}})
    said = capsys.readouterr()
    for part in ("speed [least, greatest]", "1.235", "2 [1, 3]", " a ", " b "):
        assert part in said.err
    assert said.out == ""
