"""What the console says about the served model."""

from pathlib import Path

import pytest
import yaml
from tiny_models import fitted

from guards.config.config import parse
from service.engine.about import MOST_ROWS, about, known_rows

STORING = {"store_reference_rows": True}


def test_every_guard_and_monitor_is_described_in_words() -> None:
    """Each has its name, its kind, a sentence about what it does, and what it cannot see."""
    guards = [{"name": "quality", "detector": {"kind": "ranges"}, "action": "reject", "share": 2}]
    told = about(fitted("tabular", guards=guards).bundle.config, [])
    (guard,) = told["guards"]
    assert (guard["name"], guard["kind"], guard["action"], guard["share"]) == ("quality", "ranges", "reject", 2)
    assert guard["what"].endswith(".")
    assert guard["blind_spots"]
    assert told["monitors"][-1]["name"] == "accuracy"
    assert all(each["what"] for each in told["monitors"])


def test_the_config_can_be_used_again() -> None:
    """The text is a config, which says the same as the served one."""
    config = fitted("image").bundle.config
    assert parse(yaml.safe_load(about(config, [])["config"])) == config


@pytest.mark.parametrize("kind", ["tabular", "image"])
def test_known_rows_are_only_shown_if_the_config_allows_it(kind: str, tmp_path: Path) -> None:
    """The rows are those of the self-test, as a request holds them; without leave there are none."""
    for changes, count in ((STORING, MOST_ROWS), ({}, 0)):
        bundle = fitted(kind, **changes).bundle
        folder = tmp_path / str(count)
        bundle.save(folder)
        rows = known_rows(folder, bundle.config, bundle.schema)
        assert len(rows) == count
        if rows and kind == "tabular":
            assert rows[0].keys() == {*bundle.schema.names}


def test_a_bundle_that_cannot_be_read_has_no_known_rows(tmp_path: Path) -> None:
    """The engine reads the same file next, and says what is wrong; the description does not fail."""
    bundle = fitted("image", **STORING).bundle
    assert known_rows(tmp_path, bundle.config, bundle.schema) == []
